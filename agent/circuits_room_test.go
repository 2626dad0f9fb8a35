//go:build linux

package agent

import (
	"strings"
	"time"

	"github.com/resagent/resagent/agent/page"
)

// What the model knows of who gives way.

// lastUnit is how exactly a page says when a call was counted.
const lastUnit = 100 * time.Millisecond

// held says whether the agent has a cell of the process for it.
func (c *citizen) held(key circuitKey) bool {
	for _, one := range c.proc.outcomes {
		if one.key == key {
			return true
		}
	}
	return false
}

// seeking says whether it is too soon to make room again, in a process's page
// and for its user.
type seeking struct{ page, user bool }

func (w *town) seeking(c *citizen) seeking {
	now := w.a.now()
	last, ok := w.a.circuits.sought[c.proc.id.uid]
	return seeking{now < c.proc.sought+seekEvery, ok && now < last+seekEvery}
}

// gaveWay takes in which cells the agent took back: of authorities that their
// process has not called for long.
func (w *town) gaveWay() {
	for _, c := range w.all {
		for key := range c.calls {
			if c.away || c.held(key) {
				continue
			}
			if rested := w.a.now() - c.last[key]; rested < circuitRests {
				w.broken("process %d called %v %v ago, and its cell was taken", c.proc.id.pid, key, rested)
			}
			if _, ordered := w.orders[key.upstream]; ordered {
				w.broken("%v is ordered, and the cell of process %d was taken", key, c.proc.id.pid)
			}
			delete(c.calls, key)
		}
	}
}

// noRoom looks into why a process got no cell.
func (w *town) noRoom(c *citizen, key circuitKey, full bool, sought seeking, why string) {
	t, now := &w.a.circuits, w.a.now()
	idle := func(one *circuit) bool {
		if one.word.State() != page.CircuitClosed || one.forced != nil || one.next != 0 {
			return false
		}
		for _, other := range w.all {
			if who := one.callers[other.proc]; who != nil && now-max(other.last[one.key], who.got) < circuitRests+lastUnit {
				return false
			}
		}
		return true
	}
	switch {
	case strings.Contains(why, "page"):
		if !full {
			w.broken("process %d has %d cells, and got none for %v: %s", c.proc.id.pid, len(c.proc.outcomes), key, why)
		}
		for _, one := range c.proc.outcomes {
			alone := &circuit{key: one.key, set: one.set, word: one.word, forced: one.forced, next: one.next, callers: map[*process]*caller{c.proc: one.callers[c.proc]}}
			if !sought.page && idle(alone) {
				w.broken("process %d got no cell for %v, and %v could give way", c.proc.id.pid, key, one.key)
			}
		}
	case strings.Contains(why, "user"), strings.Contains(why, "host"):
		mine := strings.Contains(why, "user")
		if n := t.begun[c.proc.id.uid]; mine && n < t.ofUser || !mine && len(t.free) > 0 {
			w.broken("user %d began %d circuits, %d are free, and there is none for %v: %s", c.proc.id.uid, n, len(t.free), key, why)
		}
		for _, one := range t.all {
			if !sought.user && (!mine || t.starts[one] == c.proc.id.uid) && idle(one) {
				w.broken("no circuit for %v (%s), and %v could give way", key, why, one.key)
			}
		}
	default:
		w.broken("no cell of %v: %s", key, why)
	}
}
