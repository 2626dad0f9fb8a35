//go:build linux

package agent

import (
	"fmt"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

// check holds the world to the invariants of DESIGN.md, section 6.
func (w *world) check() error {
	for _, check := range []func() error{w.checkCells, w.checkLedger, w.checkPermits, w.checkBooked, w.checkMeeting, w.checkRate, w.checkBudget} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkCells: in use in each cell is what callers hold there (5: a word of
// another epoch is never written), and all of it and the available is in the
// ledger (2).
func (w *world) checkCells() error {
	for _, a := range w.actors {
		if a.page == nil || a.liar {
			continue
		}
		for k := range a.gates {
			g := &a.gates[k]
			held := map[cellID]int{}
			epochs := map[cellID]uint16{}
			for _, h := range g.held {
				if id := (cellID{h.page.Inode(), h.index}); !h.extra && h.page == a.page {
					held[id] += h.n
					epochs[id] = h.epoch
				}
			}
			if g.bound {
				id := cellID{a.page.Inode(), g.index}
				epochs[id] = g.epoch
				held[id] += 0
			}
			for id, n := range held {
				word := a.page.Cell(id.index).Read()
				if word.Epoch == page.Closed && n == 0 {
					continue
				}
				if word.Epoch != epochs[id] || word.InUse != n {
					return fmt.Errorf("process %d, %s: cell %d has %+v, callers hold %d of epoch %d", a.id.pid, kinds[k], id.index, word, n, epochs[id])
				}
				slot, known := w.kept[id]
				if !known && a.ledger != w.id {
					continue // an earlier ledger filled it, and was lost
				}
				e, ok := (&ledger{mem: w.mem}).entry(slot)
				if !known || !ok || e.cell != id.index || e.epoch != word.Epoch {
					if word.Available+n > 0 {
						return fmt.Errorf("process %d, %s: cell %d has %+v and no entry in the ledger (%+v)", a.id.pid, kinds[k], id.index, word, e)
					}
					continue
				}
				if word.Available+word.InUse > e.granted {
					return fmt.Errorf("process %d, %s: cell %d has %+v, the ledger says %d", a.id.pid, kinds[k], id.index, word, e.granted)
				}
			}
		}
	}
	return nil
}

// checkLedger: what the agent works with is what the ledger says.
func (w *world) checkLedger() error {
	if w.alloc == nil {
		return nil
	}
	for _, p := range w.alloc.processes {
		for cell, h := range p.holders {
			e, ok := w.alloc.ledger.entry(h.slot)
			if want := (entry{process: p.slot, limit: h.limit.slot, cell: cell, epoch: h.epoch, granted: h.granted}); !ok || e != want {
				return fmt.Errorf("the ledger says %+v, the agent %+v", e, want)
			}
		}
	}
	return nil
}

// checkPermits: what callers hold, and what they could take at once, is never
// above the limit; above a lowered one it never grows (1). What was held from
// cells that no agent counts any more is extra, and counts from when the agent
// is told.
func (w *world) checkPermits() error {
	out := 0
	for _, a := range w.actors {
		if a.liar {
			continue
		}
		g := &a.gates[0]
		for _, h := range g.held {
			if !h.extra {
				out += h.n
			}
		}
		if g.bound {
			out += g.told
			if word := a.page.Cell(g.index).Read(); word.Epoch == g.epoch {
				out += word.Available
			}
		}
	}
	limit := 0
	if b := w.set.Upstreams["u"].Bulkhead; b != nil {
		limit = b.MaxConcurrent
	}
	w.allowed = max(limit, w.allowed)
	if out > w.allowed {
		return fmt.Errorf("%d permits are out, the limit is %d (%d since it was lowered)", out, limit, w.allowed)
	}
	w.allowed = max(limit, min(w.allowed, out))
	return nil
}

// checkBooked: what the ledger says is out, and what processes say they have
// beyond it, is never above the limit, whatever a process writes into its page;
// above a lowered one it never grows.
func (w *world) checkBooked() error {
	limit, out := 0, 0
	if b := w.set.Upstreams["u"].Bulkhead; b != nil {
		limit = b.MaxConcurrent
	}
	// The agent may have given all of it out and be killed in the same step.
	w.booked = max(limit, w.booked)
	if w.alloc == nil {
		return nil
	}
	if l := w.alloc.limits[limitKey{"u", wire.Bulkhead}]; l != nil {
		out = l.out()
	}
	if w.alloc.ledger.lost {
		w.booked = max(w.booked, out) // pages are believed
	}
	if out > w.booked {
		return fmt.Errorf("the ledger says %d permits are out, the limit is %d (%d since it was lowered)", out, limit, w.booked)
	}
	w.booked = max(limit, min(w.booked, out))
	return nil
}

// checkRate: in each window that ends now, no more was spent than the largest
// burst and the fastest rate in it allow (9).
func (w *world) checkRate() error {
	l := w.set.Upstreams["u"].RateLimit
	if l == nil {
		return nil
	}
	now := rateOf{w.now, l.Rate.Every(), l.Burst}
	if n := len(w.rates); n == 0 || w.rates[n-1].every != now.every || w.rates[n-1].burst != now.burst {
		w.rates = append(w.rates, now)
	}
	if len(w.spent) == 0 || w.spent[len(w.spent)-1].at != w.now {
		return nil
	}
	sum := 0
	for i := len(w.spent) - 1; i >= 0; i-- {
		sum += w.spent[i].n
		from := w.spent[i].at
		burst, raised, every := 0, 0, time.Hour
		for j, r := range w.rates {
			if j+1 < len(w.rates) && w.rates[j+1].from < from {
				continue
			}
			every = min(every, r.every)
		}
		// Tokens of an earlier, larger burst may lie with a process that was away.
		// Each raise may give its difference at once.
		for j, r := range w.rates {
			burst = max(burst, r.burst)
			if j > 0 && r.from >= from && r.burst > w.rates[j-1].burst {
				raised += r.burst - w.rates[j-1].burst
			}
		}
		burst += raised
		if most := burst + int((w.now-from)/every); sum > most || sum > burst && w.now == from {
			return fmt.Errorf("%d tokens spent in %v, with a burst of %d and one every %v", sum, w.now-from, burst, every)
		}
	}
	return nil
}

// checkBudget: level and what is out are never above the capacity.
func (w *world) checkBudget() error {
	if w.alloc == nil {
		return nil
	}
	for key, l := range w.alloc.limits {
		if key.kind != wire.RetryBudget || l.removed {
			continue
		}
		if level, out := w.alloc.ledger.level(l.slot), l.out(); level+out > max(l.capacity, out) {
			return fmt.Errorf("a budget of %d has %d, with %d out", l.capacity, level, out)
		}
	}
	return nil
}

// checkEnd ends all processes: everything is free again (12).
func (w *world) checkEnd() error {
	w.fuse = 0
	if w.alloc == nil {
		w.boot()
	}
	w.pass(recovering)
	for len(w.actors) > 0 {
		w.die(w.actors[0])
	}
	w.pass(settle)
	if n := len(w.alloc.processes); n > 0 {
		return fmt.Errorf("%d processes remain when all have ended", n)
	}
	for key, l := range w.alloc.limits {
		if l.out() > 0 || len(l.holders) > 0 {
			return fmt.Errorf("%v: %d of %d out to %d processes when all have ended", key, l.out(), l.capacity, len(l.holders))
		}
	}
	free := w.alloc.ledger.free
	if len(free.processes) != maxProcesses || len(free.entries) != maxEntries || len(free.limits)+len(w.alloc.limits) != maxLimits {
		return fmt.Errorf("the ledger has room for %d processes, %d entries and %d limits when all have ended", len(free.processes), len(free.entries), len(free.limits))
	}
	again := &ledger{mem: w.mem}
	if err := again.verify(); err != nil {
		return err
	}
	if len(again.free.entries) != maxEntries || len(again.free.processes) != maxProcesses {
		return fmt.Errorf("read again, the ledger has room for %d processes and %d entries", len(again.free.processes), len(again.free.entries))
	}
	return nil
}
