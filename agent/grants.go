//go:build linux

package agent

import (
	"cmp"
	"container/heap"

	"github.com/resagent/resagent/agent/wire"
)

// grants divides free permits or tokens between those who wait: to the user
// with least, in it to the process with least, and among equals to the one
// served longest ago, one at a time. What is left when all are served goes to
// them as well, in bounds, so that a growing process asks less often.
func (l *limit) grants(free int, views []view) []int {
	give := make([]int, len(views))
	users := make(map[int]*crew)
	byNeed := least[*crew]{before: func(a, b *crew) bool {
		c := cmp.Or(cmp.Compare(a.held, b.held), cmp.Compare(a.turn, b.turn))
		return c < 0 || c == 0 && a.open.before(a.open.all[0], b.open.all[0])
	}}
	has := func(i int) int {
		if l.kind == wire.Bulkhead {
			return views[i].granted + give[i]
		}
		return give[i] // tokens are spent, not held
	}
	before := func(a, b int) bool {
		return cmp.Or(cmp.Compare(has(a), has(b)), cmp.Compare(views[a].turn, views[b].turn), cmp.Compare(a, b)) < 0
	}
	crewOf := func(uid int) *crew {
		if users[uid] == nil {
			users[uid] = &crew{turn: l.users[uid], open: least[int]{before: before}}
		}
		return users[uid]
	}
	var served []int
	for i, v := range views {
		if l.kind == wire.Bulkhead {
			crewOf(v.uid).held += v.granted
		}
		if v.waiting > 0 && v.attached {
			c := crewOf(v.uid)
			c.open.all = append(c.open.all, i)
			served = append(served, i)
		}
	}
	if len(served) == 0 {
		return give
	}
	for _, c := range users {
		if len(c.open.all) > 0 {
			heap.Init(&c.open)
			byNeed.all = append(byNeed.all, c)
		}
	}
	heap.Init(&byNeed)
	for open := len(served); free > 0 && open > 0; {
		c := byNeed.all[0]
		if l.kind == wire.Bulkhead && c.held >= l.perUser {
			open -= len(c.open.all)
			heap.Pop(&byNeed)
			continue
		}
		i := c.open.all[0]
		// Alone in waiting, it need not be counted out one by one.
		n := 1
		if open == 1 {
			n = min(free, views[i].waiting-give[i])
			if l.kind == wire.Bulkhead {
				n = min(n, l.perUser-c.held)
			}
		}
		give[i] += n
		c.held += n
		free -= n
		if give[i] >= views[i].waiting {
			open--
			heap.Pop(&c.open)
		} else {
			heap.Fix(&c.open, 0)
		}
		if len(c.open.all) == 0 {
			heap.Pop(&byNeed)
		} else {
			heap.Fix(&byNeed, 0)
		}
	}
	// Only half of what is left, so that the next process finds some without a
	// taking-back.
	spare := free / 2 / len(served)
	for _, i := range served {
		v, c := views[i], users[views[i].uid]
		n := min(spare, v.batch)
		if l.kind == wire.Bulkhead {
			n = max(0, min(spare, v.inUse+v.waiting, l.perUser-c.held))
		}
		give[i] += n
		c.held += n
	}
	return give
}

// crew is the processes of one user.
type crew struct {
	held int
	turn uint64     // at the user's last grant
	open least[int] // those that wait
}

// least is a heap: the first comes before all others.
type least[T any] struct {
	all    []T
	before func(a, b T) bool
}

func (h *least[T]) Len() int           { return len(h.all) }
func (h *least[T]) Less(i, j int) bool { return h.before(h.all[i], h.all[j]) }
func (h *least[T]) Swap(i, j int)      { h.all[i], h.all[j] = h.all[j], h.all[i] }
func (h *least[T]) Push(x any)         { h.all = append(h.all, x.(T)) }
func (h *least[T]) Pop() any {
	last := h.all[len(h.all)-1]
	h.all = h.all[:len(h.all)-1]
	return last
}
