//go:build linux

package agent

import (
	"os"
	"slices"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

// actor is one process.
type actor struct {
	id       identity
	page     *page.Page // its own mapping
	file     *os.File
	ledger   int // that filled the page
	proc     *process
	agents   *page.Page // the agent's mapping
	attached bool
	stopped  bool // by a signal
	liar     bool // writes into its page what it likes
	gates    [3]gateOf
}

// gateOf is what a process has of one limit.
type gateOf struct {
	bound   bool
	index   int
	epoch   uint16
	waiting int
	held    []permitOf
	extra   int  // of held, what no agent granted
	told    int  // of extra, what the agent can know
	woken   bool // a wake-up is on its way
}

// permitOf is what one caller holds.
type permitOf struct {
	page  *page.Page
	index int
	epoch uint16
	n     int
	extra bool // its cell was left
}

func (w *world) spawn(uid int) *actor {
	w.starts++
	a := &actor{id: identity{pid: int(w.starts), uid: uid, start: w.starts}}
	w.actors = append(w.actors, a)
	return a
}

// freshPage gives a process a new page, as for an agent with another ledger.
func (w *world) freshPage(a *actor) {
	p, f, err := page.New()
	if err != nil {
		panic(err)
	}
	w.leave(a)
	a.page, a.file, a.ledger = p, f, w.id
	a.id.ino = p.Inode()
}

// leave lets go of a page: what is held in it is counted as extra.
func (w *world) leave(a *actor) {
	for k := range a.gates {
		w.lose(a, k)
	}
	if a.file != nil {
		a.file.Close()
	}
}

// settle closes cells that were left with something in use.
func (w *world) settle(a *actor) {
	for k := range a.gates {
		g := &a.gates[k]
		for i := range g.held {
			if h := &g.held[i]; !h.extra && !(g.bound && h.page == a.page && h.index == g.index && h.epoch == g.epoch) {
				h.page.Cell(h.index).Close(h.epoch)
				h.extra = true
				g.extra += h.n
			}
		}
	}
}

// lose leaves one cell.
func (w *world) lose(a *actor, k int) {
	g := &a.gates[k]
	if !g.bound {
		return
	}
	g.bound, g.told = false, 0
	n := a.page.Cell(g.index).Close(g.epoch)
	g.extra += n
	for i := range g.held {
		if h := &g.held[i]; h.page == a.page && h.index == g.index && h.epoch == g.epoch {
			h.extra = true
		}
	}
}

// tell writes what a process says of itself.
func (w *world) tell(a *actor, k int) {
	if g := &a.gates[k]; g.bound {
		c := a.page.Cell(g.index)
		c.SetWaiting(g.epoch, g.waiting)
		if kinds[k] == wire.Bulkhead {
			c.SetExtra(g.epoch, g.extra)
			if a.attached {
				w.allowed += max(0, g.extra-g.told)
				g.told = g.extra
			}
			g.told = min(g.told, g.extra)
		}
	}
}

// open asks for a cell.
func (w *world) open(a *actor, k int) {
	if !a.attached || a.gates[k].bound || a.proc.dead {
		return
	}
	w.agent(func() {
		c, ok := w.alloc.open(a.proc, limitKey{"u", kinds[k]}, w.now)
		if ok {
			a.gates[k].bound, a.gates[k].index, a.gates[k].epoch = true, c.Index, c.Epoch
		}
	})
	w.tell(a, k)
}

// want has n more callers, or tokens, waited for, and says so.
func (w *world) want(a *actor, k, n int) {
	a.gates[k].waiting += n
	w.tell(a, k)
	w.hint(a, k)
}

func (w *world) hint(a *actor, k int) {
	if g := a.gates[k]; a.attached && g.bound && !a.proc.dead {
		w.agent(func() { w.alloc.lookAt(a.proc, g.index, w.now) })
	}
}

// take has as many callers served as there is for, at most n.
func (w *world) take(a *actor, k, n int) bool {
	g := &a.gates[k]
	if !g.bound {
		return false
	}
	c := a.page.Cell(g.index)
	c.Awake()
	if kinds[k] == wire.RateLimit {
		if !c.Take(g.epoch, n) {
			return false
		}
		if w.set.Upstreams["u"].RateLimit != nil && !a.liar {
			w.spent = append(w.spent, spending{w.now, n})
		}
	} else {
		if !c.Acquire(g.epoch, n) {
			return false
		}
		g.held = append(g.held, permitOf{page: a.page, index: g.index, epoch: g.epoch, n: n})
	}
	w.between(a)
	g.waiting = max(0, g.waiting-n)
	w.tell(a, k)
	return true
}

// release gives back, or consumes, what one caller has.
func (w *world) release(a *actor, k, i int, consume bool) {
	g := &a.gates[k]
	h := g.held[i]
	g.held = slices.Delete(g.held, i, i+1)
	c := h.page.Cell(h.index)
	ok := false
	if consume {
		ok = c.Consume(h.epoch, h.n)
	} else {
		ok = c.Release(h.epoch, h.n)
	}
	if !ok {
		g.extra -= h.n
	}
	w.between(a)
	if a.stopped {
		return // it tells nobody
	}
	w.tell(a, k)
	if word := c.Read(); g.bound && word.Available+word.InUse > c.Target(g.epoch) {
		w.hint(a, k)
	}
}
