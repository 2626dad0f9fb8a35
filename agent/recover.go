//go:build linux

package agent

import (
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// restore takes in what an earlier agent's ledger says. The processes in it
// have no page yet: what they were granted counts as in use until they come
// back or end.
func (a *allocator) restore(now time.Duration) {
	l := a.ledger
	processes := make(map[int]*process)
	for i := range maxProcesses {
		if id, ok := l.process(i); ok {
			p := &process{id: id, slot: i, holders: make(map[int]*holder)}
			processes[i] = p
			a.processes[id] = p
		}
	}
	limits := make(map[int]*limit)
	for i := range maxLimits {
		name, kind, ok := l.limit(i)
		if !ok {
			continue
		}
		one := &limit{name: name, kind: kind, slot: i}
		limits[i] = one
		a.limits[limitKey{name, kind}] = one
		if u := a.policies.Named(name); u != nil {
			one.capacity, one.every, one.perUser, ok = limitOf(&u.Policy, kind)
		}
		if one.removed = a.policies.Named(name) == nil || !ok; one.removed {
			one.every = max(1, l.every(i)) // it may be added back before it is drained
		}
		// The policies may have changed while no agent ran: what was spent
		// counts in tokens, not in the time that they took then.
		if was := l.every(i); kind == wire.RateLimit && ok && was > 0 && was != one.every {
			used := min((l.tat(i)-now)/was+1, time.Duration(one.capacity))
			tat := now + max(0, used)*one.every
			l.setTAT(i, max(tat, l.tat(i))) // never less, wherever the agent is killed
			l.setEvery(i, one.every)
			l.setTAT(i, tat)
		}
	}
	for i := range l.used() {
		e, ok := l.entry(i)
		if !ok {
			continue
		}
		p, one := processes[e.process], limits[e.limit]
		h := &holder{limit: one, process: p, cell: e.cell, epoch: e.epoch, slot: i, granted: e.granted, since: now}
		p.holders[e.cell] = h
		p.epochs[e.cell] = e.epoch
		one.holders = append(one.holders, h)
	}
	for _, one := range limits {
		if one.kind != wire.RateLimit {
			continue
		}
		// More than all cannot be spent: a damaged word must not stop the rate.
		most := now + time.Duration(max(one.capacity, one.out()))*one.every
		if !one.removed && (l.tat(one.slot) > most || l.tat(one.slot) < 0) {
			l.setTAT(one.slot, most)
		}
		one.tat = l.tat(one.slot)
	}
}

// recovered ends the time of a lost ledger, for agents that come after: what
// processes hold is known from now on.
func (a *allocator) recovered(now time.Duration) {
	if now >= a.recoverUntil && a.ledger.recovery() > 0 {
		a.ledger.setRecovery(0)
	}
}

// takeIn joins a page with what the ledger says of its process, and returns
// the cells that go on. held is what the process says its page holds.
func (a *allocator) takeIn(p *process, held []wire.Cell, now time.Duration) []wire.Cell {
	said := make(map[int]wire.Cell, len(held))
	for _, c := range held {
		if c.Index >= 0 && c.Index < len(p.epochs) {
			said[c.Index] = c
		}
	}
	var cells []wire.Cell
	for i, h := range p.holders {
		w := p.page.Cell(i).Read()
		a.fillTo(h.limit, a.after(now))
		c, ok := said[i]
		delete(said, i)
		if !ok || c.Epoch != h.epoch || c.Upstream != h.limit.name || c.Kind != h.limit.kind {
			if w.Epoch != h.epoch {
				// The process left this cell: what it had in use there it
				// counts elsewhere, as extra.
				a.dropHolder(h, now)
			}
			continue
		}
		if w.Epoch == h.epoch {
			// After a crash between ledger and cell the lower one is the truth.
			a.setGranted(h, min(h.granted, w.Available+w.InUse))
		}
		h.deposits = p.page.Cell(i).Deposits()
		h.counted.begin(p.page.Cell(i).Traffic(), now)
		h.since = now
		cells = append(cells, c)
	}
	for i, c := range said {
		if a.believe(p, i, c, now) {
			cells = append(cells, c)
		}
	}
	for _, h := range p.holders {
		h.cellOf().Awake()
		a.look(h.limit, now)
	}
	return cells
}

// believe takes in a cell that the ledger does not know: its ledger was lost.
// While pages are expected back their permits are believed, in all up to the
// limit; later, and beyond it, what lies idle is seized and what is in use
// counted.
func (a *allocator) believe(p *process, index int, c wire.Cell, now time.Duration) bool {
	if !a.ledger.lost || p.holders[index] != nil {
		return false
	}
	l, _ := a.limit(limitKey{c.Upstream, c.Kind}, now)
	if l == nil {
		return false
	}
	for _, h := range p.holders {
		if h.limit == l {
			return false
		}
	}
	cell := p.page.Cell(index)
	w := cell.Read()
	if w.Epoch != c.Epoch || c.Epoch == 0 || w.InUse > l.capacity {
		return false
	}
	granted := w.Available + w.InUse // the process may move them between the two meanwhile
	if l.kind != wire.Bulkhead || now >= a.recoverUntil || l.out()+granted > l.capacity {
		granted -= cell.Seize(c.Epoch, w.Available)
	}
	h, err := a.addHolder(p, l, index, c.Epoch, granted)
	if err != nil {
		return false
	}
	p.epochs[index] = c.Epoch
	h.since, h.deposits = now, cell.Deposits()
	h.counted.begin(cell.Traffic(), now)
	return true
}
