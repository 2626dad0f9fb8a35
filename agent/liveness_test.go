//go:build linux

package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// meetWithin is how long a waiter and an idle permit may miss each other.
const meetWithin = 5 * time.Millisecond

// hook is where a patched copy has its cells call the world between two
// memory operations.
func (w *world) hook() {}

// between is what can happen between two memory operations of a process: its
// other threads, the agent, and the agent's end.
func (w *world) between(a *actor) {
	switch w.pick(12) {
	case 1:
		w.agent(func() { w.alloc.tick(w.now) })
	case 2:
		if a.attached {
			w.disconnect(a)
			w.connect(a)
		}
	case 3:
		if w.alloc != nil {
			w.kill()
		}
	}
}

// wake is the agent's message; it arrives when its process next runs.
func (w *world) wake(p *process, cell int) {
	for _, a := range w.actors {
		if h := p.holders[cell]; a.proc == p && h != nil {
			a.gates[slices.Index(kinds[:], h.limit.kind)].woken = true
		}
	}
}

// drain serves a process's queue as far as it can.
func (w *world) drain(a *actor, k int) {
	for a.gates[k].waiting > 0 && w.take(a, k, 1) {
	}
}

// drainAll brings each process to where a client is between two events: its
// queue is served as far as it can be, and the agent knows that callers wait.
func (w *world) drainAll() {
	for _, a := range slices.Clone(w.actors) {
		for k := range a.gates {
			if !a.stopped && a.gates[k].bound {
				a.gates[k].woken = false
				w.drain(a, k)
				w.hint(a, k)
			}
		}
	}
}

// listen has every process that runs do what its wake-ups ask for.
func (w *world) listen() {
	for _, a := range slices.Clone(w.actors) {
		for k := range a.gates {
			g := &a.gates[k]
			if a.stopped || !g.woken {
				continue
			}
			g.woken = false
			if !g.bound || !a.attached {
				continue
			}
			a.page.Cell(g.index).Awake()
			w.drain(a, k)
			if g.waiting > 0 && kinds[k] != wire.RetryBudget {
				w.hint(a, k)
			}
		}
	}
}

// giveUp ends the waiting of all callers; a process tells nobody of that.
func (w *world) giveUp(a *actor, k int) int {
	n := a.gates[k].waiting
	a.gates[k].waiting = 0
	w.tell(a, k)
	return n
}

// meet lets a little time pass in which nothing ends and nothing is asked for.
// After it no caller waits while what it waits for is idle (6).
func (w *world) meet() string {
	w.pick = func(int) int { return 0 } // nothing comes between
	w.listen()
	w.missed = w.miss()
	for t := time.Duration(0); t < meetWithin; t += meetWithin / 20 {
		w.pass(meetWithin / 20)
		w.listen()
		if w.missed != nil {
			w.missed = w.miss() // only what lies idle all the time is missed
		}
	}
	return fmt.Sprint(w.missed)
}

// miss finds a waiter that has not met what is idle.
func (w *world) miss() error {
	if w.alloc == nil || w.now < w.alloc.recoverUntil {
		return nil
	}
	for k, kind := range kinds[:2] {
		l := w.alloc.limits[limitKey{"u", kind}]
		if l == nil || l.removed || slices.ContainsFunc(w.actors, func(a *actor) bool { return a.liar }) {
			continue
		}
		idle := 0
		switch kind {
		case wire.Bulkhead:
			idle = max(0, l.capacity-l.out())
			for _, h := range l.holders {
				if c := h.cellOf(); c != nil && !h.process.dead {
					idle -= c.Extra(h.epoch)
				}
			}
			idle = max(0, idle)
		case wire.RateLimit:
			idle = w.alloc.tokens(l, w.now)
		}
		for _, h := range l.holders {
			if c := h.cellOf(); c != nil && !h.process.dead && !h.left() {
				idle += c.Read().Available
			}
		}
		for _, a := range w.actors {
			if g := &a.gates[k]; idle > 0 && a.attached && !a.stopped && g.bound && g.waiting > 0 {
				return fmt.Errorf("process %d waits for %d of %s, and %d are idle, for %v", a.id.pid, g.waiting, kind, idle, meetWithin)
			}
		}
	}
	return nil
}

// checkMeeting: the last meeting came about.
func (w *world) checkMeeting() error {
	defer func() { w.missed = nil }()
	return w.missed
}

// stepStopped is a step of a process that is stopped.
func (w *world) stepStopped(a *actor) string {
	if w.pick(6) == 0 {
		w.die(a)
		return fmt.Sprintf("process %d is killed while it is stopped", a.id.pid)
	}
	w.goOn(a)
	return fmt.Sprintf("process %d continues", a.id.pid)
}

// goOn continues a process: what it was about to do it does now.
func (w *world) goOn(a *actor) {
	a.stopped = false
	for k := range a.gates {
		if a.gates[k].bound {
			w.tell(a, k)
			w.drain(a, k)
			w.hint(a, k)
		}
	}
}

// stop stops a process, right after it has ended one call.
func (w *world) stop(a *actor, k int) {
	a.stopped = true
	if n := len(a.gates[k].held); n > 0 {
		w.release(a, k, n-1, false)
	}
}

// stepStops: of two processes one has all, the other waits; the first ends a
// call and is stopped before it can say so.
func (w *world) stepStops(a *actor, k int) string {
	b := w.other(a)
	if b == nil || w.alloc == nil || k == 2 {
		a.stopped = true
		return fmt.Sprintf("process %d is stopped", a.id.pid)
	}
	w.open(a, k)
	w.open(b, k)
	w.want(a, k, 4)
	w.takeAll(a, k)
	w.giveUp(a, k)
	w.drainAll()
	for _, one := range slices.Clone(w.actors) {
		if one != a && one.attached && !one.stopped {
			w.open(one, k)
			w.want(one, k, 2)
			w.drain(one, k)
		}
	}
	w.stop(a, k)
	return fmt.Sprintf("process %d has all of %s, ends one and is stopped; process %d waits: %s", a.id.pid, kinds[k], b.id.pid, w.meet())
}

// stepStoppedUnheard: two processes wait for what one of them has. It ends a
// call and is stopped before it says so; meanwhile the other's callers give up.
func (w *world) stepStoppedUnheard(a *actor) string {
	b := w.other(a)
	if b == nil || w.alloc == nil {
		return "nothing"
	}
	w.open(a, 0)
	w.open(b, 0)
	w.want(a, 0, 4)
	w.takeAll(a, 0)
	w.drainAll()
	w.want(a, 0, 1)
	w.want(b, 0, 1)
	w.pass(quantum)
	w.listen()
	w.stop(a, 0)
	w.giveUp(b, 0)
	w.goOn(a)
	return fmt.Sprintf("process %d ends one and is stopped, process %d gives up, the first continues: %s", a.id.pid, b.id.pid, w.meet())
}

// stepSpendsTwice: a process spends what it was given long ago, and comes back
// for more.
func (w *world) stepSpendsTwice(a *actor) string {
	w.open(a, 1)
	w.want(a, 1, 6)
	w.giveUp(a, 1)
	w.pass(30 * time.Millisecond)
	w.pass(30 * time.Millisecond)
	n := w.takeAll(a, 1)
	w.disconnect(a)
	w.connect(a)
	w.want(a, 1, 6)
	return fmt.Sprintf("process %d spends %d old tokens, comes back, and spends %d more", a.id.pid, n, w.takeAll(a, 1))
}

// stepLies: a process writes more into its page than it was given, and comes
// back with it.
func (w *world) stepLies(a *actor) string {
	if g := &a.gates[0]; w.pick(3) == 0 && g.bound {
		a.liar = true
		a.page.Cell(g.index).Grant(g.epoch, 1+w.pick(4))
		w.disconnect(a)
		w.connect(a)
		return fmt.Sprintf("process %d lies about what it has", a.id.pid)
	}
	return "nothing"
}

// other is another process that is attached and runs.
func (w *world) other(a *actor) *actor {
	for _, b := range w.actors {
		if b != a && b.attached && !b.stopped && a.attached {
			return b
		}
	}
	return nil
}
