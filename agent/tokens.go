//go:build linux

package agent

import (
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// A rate is a bucket of tokens that refills with time (GCRA: one theoretical
// arrival time in the ledger says how full it is), a retry budget one that
// refills with successes (its level is in the ledger). For both, what is in
// the bucket and what is out in cells never exceeds the burst or capacity
// together: so in any window W at most burst + rate x W calls begin.
// Source of GCRA: ITU-T I.371, virtual scheduling.

// out adds up what is in cells.
func (l *limit) out() int {
	n := 0
	for _, h := range l.holders {
		n += h.granted
	}
	return n
}

// fillTo bounds a rate's bucket to what the tokens out in cells leave room for.
// To be called after the cells were read, with the time [allocator.after] that,
// and before the ledger says that fewer are out: they may have been spent just
// before the reading.
func (a *allocator) fillTo(l *limit, now time.Duration) {
	if l.kind != wire.RateLimit {
		return
	}
	full := now + time.Duration(l.out())*l.every
	if l.tat < full {
		a.setTAT(l, full)
	}
}

// after is the time now, for one who was given the time before it read cells: on
// a busy machine it may have been held up in between.
func (a *allocator) after(now time.Duration) time.Duration {
	if a.clock == nil {
		return now
	}
	return max(now, a.clock())
}

// setTAT moves a rate's theoretical arrival time. The ledger rounds it up, so
// what is decided from is kept beside it, exactly: a bucket that is full by the
// ledger's figure lacks some nanoseconds of its last token, which with a burst
// of one is the only one.
func (a *allocator) setTAT(l *limit, t time.Duration) {
	a.ledger.setTAT(l.slot, t)
	l.tat = max(t, 0)
}

// tokens is how many whole tokens the bucket has.
func (a *allocator) tokens(l *limit, now time.Duration) int {
	used := l.tat - now
	return max(0, int((time.Duration(l.capacity)*l.every-used)/l.every))
}

// spent lowers the ledger by what processes used up since the last look.
func (a *allocator) spent(l *limit, views []view) {
	for i, h := range l.holders {
		v := &views[i]
		if left := v.available + v.inUse; left < h.granted {
			l.consumed += uint64(h.granted - left)
			a.setGranted(h, left)
			v.granted = left
		}
	}
}

func (a *allocator) lookRate(l *limit, now time.Duration) {
	views := a.read(l, now)
	now = a.after(now)
	a.fillTo(l, now)
	a.spent(l, views)
	if over := l.out() - l.capacity; over > 0 { // the burst was lowered
		for i, h := range l.holders {
			n := a.seize(h, &views[i], min(over, views[i].available))
			a.setTAT(l, l.tat-time.Duration(n)*l.every)
			over -= n
		}
	}
	_, _, waiting := total(views)
	if !a.again(l, views, now) {
		return
	}
	for i, h := range l.holders {
		// What a process uses in about the time between two messages, so that
		// one that calls a lot asks seldom.
		if v := &views[i]; v.waiting > 0 {
			if now-h.since < often {
				h.batch = min(max(1, 2*h.batch), l.capacity)
			} else {
				h.batch /= 2
			}
			v.batch = h.batch
		}
	}
	free := a.tokens(l, now)
	for i, h := range l.holders {
		v := &views[i]
		if idle := v.available - v.due; free < waiting && idle > 0 && now-v.since >= unseen {
			n := a.seize(h, v, min(idle, waiting-free))
			a.setTAT(l, l.tat-time.Duration(n)*l.every)
			free += n
		}
	}
	if now >= a.recoverUntil {
		for i, n := range l.grants(free, views) {
			if n > 0 {
				a.setTAT(l, max(l.tat, now)+time.Duration(n)*l.every)
				a.grant(l.holders[i], n, l.capacity, now)
				waiting -= n
			}
		}
	}
	if waiting > 0 {
		// The next token, if it comes earlier; several together where the bucket
		// has room for them: looking costs, and nothing is lost of it.
		room := time.Duration(l.capacity-1) * l.every
		if next := l.tat - room; next > now {
			a.hot[l] = min(a.hot[l], max(next, now+min(together, room/2)))
		}
	}
}

func (a *allocator) lookBudget(l *limit, now time.Duration) {
	views := a.read(l, now)
	a.earned(l)
	a.spent(l, views)
	for i := range l.holders {
		if views[i].waiting > 0 {
			a.answerBudget(l, i, views, now)
		}
	}
}

// earned adds the deposits of all processes, up to the capacity.
func (a *allocator) earned(l *limit) {
	level := a.ledger.level(l.slot)
	for _, h := range l.holders {
		if c := h.cellOf(); c != nil {
			now := c.Deposits()
			// A count that went backwards, or leapt, is not believed beyond
			// what the budget can hold.
			level += int(min(now-h.deposits, uint64(l.capacity)))
			h.deposits = now
		}
	}
	a.ledger.setLevel(l.slot, max(0, min(level, l.capacity-l.out())))
}

// answerBudget gives holder i the tokens it waits for, or as many as there are,
// with what others have too little of to use. Either way it is told at once.
func (a *allocator) answerBudget(l *limit, i int, views []view, now time.Duration) {
	h, want := l.holders[i], views[i].waiting
	level := a.ledger.level(l.slot)
	for j, other := range l.holders {
		v := &views[j]
		if idle := v.available - v.due; j != i && level < want && idle > 0 && now-v.since >= unseen {
			level += a.seize(other, v, min(idle, want-level))
			a.ledger.setLevel(l.slot, level)
		}
	}
	if n := min(want, level); n > 0 && now >= a.recoverUntil {
		a.ledger.setLevel(l.slot, level-n)
		a.grant(h, n, l.capacity, now)
	}
	a.rouse(h)
}

// credit gives a dead process's unused tokens back to the bucket.
func (a *allocator) credit(h *holder) {
	c := h.cellOf()
	if c == nil || h.limit.kind == wire.Bulkhead {
		return
	}
	w := c.Read()
	if w.Epoch != h.epoch {
		return
	}
	n := min(w.Available, h.granted)
	l := h.limit
	l.consumed += uint64(h.granted - n)
	a.setGranted(h, 0)
	switch l.kind {
	case wire.RateLimit:
		a.setTAT(l, l.tat-time.Duration(n)*l.every)
	case wire.RetryBudget:
		a.ledger.setLevel(l.slot, min(a.ledger.level(l.slot)+n, l.capacity-l.out()))
	}
}

// resize follows a reload. A bucket keeps how much of it was used: a changed
// rate or burst never lets more through than the larger of the two would.
func (a *allocator) resize(l *limit, capacity int, every time.Duration, now time.Duration) {
	switch l.kind {
	case wire.RateLimit:
		if every != l.every || capacity != l.capacity {
			a.fillTo(l, now)
			left := min(a.tokens(l, now), capacity)
			l.capacity, l.every = capacity, every
			tat := now + time.Duration(capacity-left)*every
			// Never less spent than the truth, wherever the agent is killed.
			a.setTAT(l, max(tat, l.tat))
			a.ledger.setEvery(l.slot, every)
			a.setTAT(l, tat)
			a.fillTo(l, now)
		}
	case wire.RetryBudget:
		if more := capacity - l.capacity; more > 0 {
			a.ledger.setLevel(l.slot, a.ledger.level(l.slot)+more)
		}
		l.capacity = capacity
		a.ledger.setLevel(l.slot, max(0, min(a.ledger.level(l.slot), capacity-l.out())))
	}
	l.capacity, l.every = capacity, every
}
