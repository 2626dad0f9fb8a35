//go:build linux

package agent

import "time"

// lookAt is a process's hint about one of its cells. Where many hold the limit
// and it was looked at just now, the next look is brought forward instead: else
// hints come faster than they can be answered.
func (a *allocator) lookAt(p *process, cell int, now time.Duration) {
	h := p.holders[cell]
	if h == nil {
		return
	}
	l := h.limit
	next := l.looked + time.Duration(len(l.holders)-crowd)*apart
	if len(l.holders) <= crowd || now >= next {
		a.look(l, now)
	} else if at, hot := a.hot[l]; !hot || next < at {
		a.hot[l] = next
	}
}

// tick looks at the limits that are due, and says when to come again; zero:
// not until something happens.
func (a *allocator) tick(now time.Duration) (next time.Duration) {
	for l, at := range a.hot {
		if at <= now {
			a.look(l, now)
		}
	}
	for _, at := range a.hot {
		if next == 0 || at < next {
			next = at
		}
	}
	return next
}
