//go:build linux

package agent

import (
	"maps"
	"slices"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

// check is what holds after each turn of the loop.
func (w *town) check() {
	t, now := &w.a.circuits, w.a.now()
	entries, begun := map[int]bool{}, map[int]int{}
	for key, c := range t.all {
		if c.key != key || entries[c.entry] || slices.Contains(t.free, c.entry) {
			w.broken("%v is kept as %v, with entry %d, which is another's or free", c.key, key, c.entry)
		}
		entries[c.entry] = true
		begun[t.starts[c]]++
		if got := w.a.control.Circuit(c.entry); got != c.word {
			w.broken("%v: the page says %x, the agent %x", key, got, c.word)
		}
		if _, due := t.due[c]; due != (c.next > 0) {
			w.broken("%v asks for %v, planned: %v", key, c.next, due)
		}
		if c.next > 0 && max(c.next, t.rest) < now {
			w.broken("%v: what was due at %v is not done at %v", key, c.next, now)
		}
		o, ordered := w.orders[key.upstream]
		if s := c.word.State(); ordered != c.word.Forced() || ordered != (c.forced != nil) || ordered && s.String() != o.to {
			w.broken("%v is %v, forced %v; the order is %+v", key, s, c.word.Forced(), o)
		} else if !ordered && s != page.CircuitClosed && (!w.bad[key] || c.set.Mode == policies.ModeProportional) {
			w.broken("%v of mode %s is %v (%s), and no call of it has failed: %v", key, c.set.Mode, s, c.why, w.bad[key])
		} else if len(c.callers) == 0 && (!ordered && s == page.CircuitClosed || s == page.CircuitHalfOpen && now-c.since > lonely) {
			w.broken("%v is %v since %v (%s), and nobody calls it", key, s, now-c.since, c.why)
		}
		if _, shared := w.policy[key.upstream]; !shared {
			w.broken("%v is kept, and is not the host's", key)
		}
		for p, one := range c.callers {
			i := slices.IndexFunc(w.all, func(c *citizen) bool { return c.proc == p })
			if i < 0 {
				w.broken("%v has a caller that is gone", key)
				continue
			}
			closed := c.word.State() == page.CircuitClosed || c.word.State() == page.CircuitClosing
			if closed && !ordered && c.set.Mode != policies.ModeProportional && !w.all[i].away && one.cell.Read().Bad != one.seen.Bad && (c.next == 0 || c.next > now+glance) {
				w.broken("%v: failures of process %d are not looked at", key, p.id.pid)
			}
		}
	}
	if len(t.free)+len(t.all) != w.entries || !maps.Equal(begun, t.begun) || len(t.starts) != len(t.all) {
		w.broken("%d entries are free and %d used; begun %v, counted %v of %d", len(t.free), len(t.all), begun, t.begun, len(t.starts))
	}
	for c := range t.due {
		if t.all[c.key] != c {
			w.broken("%v is gone, and is looked at", c.key)
		}
	}
	for _, c := range w.all {
		for i, one := range c.proc.outcomes {
			if one.callers[c.proc] == nil || c.calls[one.key] != i {
				w.broken("cell %d of process %d is for %v; it has %v", i, c.proc.id.pid, one.key, c.calls)
			}
		}
	}
	if len(w.orders) != len(t.forced) {
		w.broken("orders %v, the agent has %v", w.orders, t.forced)
	}
}

// told checks that each order that ended was told.
func (w *town) told() {
	now := w.a.now()
	for name, o := range w.orders {
		if o.until <= now {
			delete(w.orders, name)
			w.ended++
		}
	}
	if got := w.a.events.count()[CircuitForced]; int(got) != w.ended {
		w.broken("%d orders ended, %d events tell of it", w.ended, got)
	}
	w.ended = 0
	w.a.events = events{}
}
