//go:build linux

package client

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// A gate asks for a cell, waits in it, and says once that callers wait.
func TestHostedCell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, bulkhead(5, 10, time.Minute)))
		if said := d.said(); !slices.Equal(said, []string{"open"}) && !slices.Contains(said, "open") {
			t.Fatalf("the session says %q, want open", said)
		}
		a, b := acquire(t, l), acquire(t, l)
		a.waits(t, "before there is a cell")
		c, _ := d.assign(wire.Bulkhead, 3, 9, 1)
		a.has(t, "with one permit granted")
		b.waits(t, "with one permit granted")
		if w := c.Waiting(9); w != 1 {
			t.Errorf("the cell says that %d wait, want 1", w)
		}
		if said := d.said(); !slices.Equal(said, []string{"want"}) {
			t.Errorf("the session says %q, want one want", said)
		}
		acquire(t, l).waits(t, "a third")
		if said := d.said(); said != nil {
			t.Errorf("the session says %q again, want nothing: the agent looks by itself", said)
		}
		c.SetTarget(9, 3)
		c.Grant(9, 2)
		d.wake(3)
		b.has(t, "after the wake-up")
		if c.Pending() || c.Waiting(9) != 0 {
			t.Errorf("pending %v and %d waiting after the wake-up, want neither", c.Pending(), c.Waiting(9))
		}
		c.SetTarget(9, 1)
		d.said()
		a.permit.Release()
		if said := d.said(); !slices.Equal(said, []string{"free"}) {
			t.Errorf("after a release above the target the session says %q, want free", said)
		}
		d.cell("two in use, one back", c, page.Word{Epoch: 9, Available: 1, InUse: 2})
		acquire(t, l).waits(t, "above the target")
	})
}

// Held permits need no message.
func TestHeldPermitsAreSilent(t *testing.T) {
	d := newDesk(t)
	l := d.s.Limits("a", resolved(t, bulkhead(5, 10, time.Minute)))
	d.assign(wire.Bulkhead, 0, 1, 5)
	d.said()
	for range 100 {
		p, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.Release()
	}
	if said := d.said(); said != nil {
		t.Errorf("the session says %q, want nothing", said)
	}
}

// A new connection on which the cell goes on: what is held stays held, there.
func TestReconnectKeepsTheCell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, bulkhead(5, 10, time.Minute)))
		c, w := d.assign(wire.Bulkhead, 2, 4, 2)
		a, b := acquire(t, l), acquire(t, l)
		waiter := acquire(t, l)
		d.lose()
		if got := d.s.heldCells(); !slices.Equal(got, []wire.Cell{w}) {
			t.Fatalf("the session offers %+v, want %+v", got, w)
		}
		d.welcome(w)
		if said := d.said(); !slices.Contains(said, "want") {
			t.Errorf("the session says %q, want again that a caller waits", said)
		}
		d.cell("after the reconnect", c, page.Word{Epoch: 4, InUse: 2})
		a.permit.Release()
		waiter.has(t, "the released permit")
		b.permit.Release()
		d.cell("after releases", c, page.Word{Epoch: 4, Available: 1, InUse: 1})
		if c.Extra(4) != 0 {
			t.Errorf("%d counted twice", c.Extra(4))
		}
	})
}

// A cell that does not go on is left for good: what is in use is told to the
// next one as extra, until it ends, each permit once.
func TestRefusedCellBecomesExtra(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, bulkhead(5, 10, time.Minute)))
		old, _ := d.assign(wire.Bulkhead, 2, 4, 5)
		a, b := acquire(t, l), acquire(t, l)
		d.lose()
		d.welcome()
		d.cell("left for good", old, page.Word{Epoch: page.Closed, InUse: 2})
		if said := d.said(); !slices.Contains(said, "open") {
			t.Fatalf("the session says %q, want open", said)
		}
		c, _ := d.assign(wire.Bulkhead, 2, 5, 1)
		if c.Extra(5) != 2 {
			t.Fatalf("extra %d in the new cell, want the 2 that are in use", c.Extra(5))
		}
		third := acquire(t, l)
		third.has(t, "in the new cell")
		a.permit.Release()
		if c.Extra(5) != 1 {
			t.Errorf("extra %d after one of the two ended, want 1", c.Extra(5))
		}
		third.permit.Release()
		if c.Extra(5) != 1 {
			t.Errorf("extra %d after a permit of the new cell, want 1 still", c.Extra(5))
		}
		b.permit.Release()
		d.cell("the new cell", c, page.Word{Epoch: 5, Available: 1})
		if c.Extra(5) != 0 {
			t.Errorf("extra %d at the end", c.Extra(5))
		}
	})
}

// Permits from before the session are extra in it.
func TestPermitsFromBeforeTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Session{}
		l := s.Limits("a", resolved(t, bulkhead(5, 10, time.Minute)))
		a := acquire(t, l)
		a.has(t, "alone")
		d := newDesk(t)
		d.s = s
		s.keep.page = d.page
		d.welcome()
		c, _ := d.assign(wire.Bulkhead, 0, 1, 2)
		if c.Extra(1) != 1 {
			t.Errorf("extra %d, want the one from before", c.Extra(1))
		}
		a.permit.Release()
		if c.Extra(1) != 0 {
			t.Errorf("extra %d after it ended", c.Extra(1))
		}
	})
}

// An attempt at a session that comes to nothing changes nothing: the limit is
// the process's own again, with what is in use counted.
func TestBackToItsOwnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.s.alone()
		l := d.s.Limits("a", resolved(t, bulkhead(2, 10, time.Minute)))
		a, b := acquire(t, l), acquire(t, l)
		d.s.keep.page = d.page
		d.welcome()
		d.s.alone()
		w, x := acquire(t, l), acquire(t, l)
		w.waits(t, "with two in use of two")
		a.permit.Release()
		w.has(t, "with one in use of two")
		x.waits(t, "with two in use of two")
		b.permit.Release()
		x.has(t, "with one in use of two")
	})
}

// The limit is taken away: the process's own takes its place, and what is in
// use goes back where it came from.
func TestRemovedCellDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, bulkhead(2, 10, time.Minute)))
		c, _ := d.assign(wire.Bulkhead, 0, 1, 2)
		a := acquire(t, l)
		waiter := acquire(t, l)
		waiter.has(t, "the second permit")
		c.SetTarget(1, 0)
		d.s.handle(&wire.Message{Type: wire.Assign, Cell: &wire.Cell{Upstream: "a", Kind: wire.Bulkhead, Index: -1, Reason: "removed"}})
		d.said()
		a.permit.Release()
		waiter.permit.Release()
		d.cell("drained", c, page.Word{Epoch: 1, Available: 2})
		if said := d.said(); !slices.Contains(said, "free") {
			t.Errorf("the session says %q, want free: the agent has to look at the drained cell", said)
		}
		x, y := acquire(t, l), acquire(t, l)
		x.has(t, "of the process's own limit")
		y.has(t, "of the process's own limit")
		acquire(t, l).waits(t, "the third of two")
	})
}

// Nor is the agent forgotten when callers wait on the process's own limit
// meanwhile.
func TestRemovedCellDrainsBesideWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, bulkhead(1, 10, time.Minute)))
		d.assign(wire.Bulkhead, 0, 1, 1)
		a := acquire(t, l)
		d.page.Cell(0).SetTarget(1, 0)
		d.s.handle(&wire.Message{Type: wire.Assign, Cell: &wire.Cell{Upstream: "a", Kind: wire.Bulkhead, Index: -1}})
		acquire(t, l).has(t, "the process's own permit")
		acquire(t, l).waits(t, "the next")
		d.said()
		a.permit.Release()
		if said := d.said(); !slices.Contains(said, "free") {
			t.Errorf("the session says %q, want free", said)
		}
	})
}

// What is in use in a cell that was left is not lost on an agent that comes
// after, and knows nothing of that cell.
func TestLeftCellIsExtraToTheNextAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		with, without := resolved(t, bulkhead(2, 10, time.Minute)), resolved(t, policies.Policy{})
		l := d.s.Limits("a", with)
		d.assign(wire.Bulkhead, 0, 1, 1)
		a := acquire(t, l)
		l.configure(without)
		d.lose()
		d.welcome()
		l.configure(with)
		c, _ := d.assign(wire.Bulkhead, 0, 2, 1)
		if c.Extra(2) != 1 {
			t.Errorf("extra %d, want the one in use from before", c.Extra(2))
		}
		a.permit.Release()
		d.cell("afterwards", c, page.Word{Epoch: 2, Available: 1})
		if c.Extra(2) != 0 {
			t.Errorf("extra %d at the end", c.Extra(2))
		}
	})
}

// The same cell given again is no cell that was left.
func TestLeftCellGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		with, without := resolved(t, bulkhead(2, 10, time.Minute)), resolved(t, policies.Policy{})
		l := d.s.Limits("a", with)
		c, w := d.assign(wire.Bulkhead, 0, 1, 1)
		a := acquire(t, l)
		l.configure(without)
		l.configure(with)
		d.s.handle(&wire.Message{Type: wire.Assign, Cell: &w})
		d.lose()
		d.welcome(w)
		d.cell("after a reconnect", c, page.Word{Epoch: 1, InUse: 1})
		a.permit.Release()
		d.cell("at the end", c, page.Word{Epoch: 1, Available: 1})
		if c.Extra(1) != 0 {
			t.Errorf("extra %d at the end", c.Extra(1))
		}
	})
}

// A caller that was let through because its limit went away holds nothing: it
// gives nothing back of what others are counted for.
func TestUncountedPermitEndsNoExtra(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		with, without := resolved(t, bulkhead(2, 10, time.Minute)), resolved(t, policies.Policy{})
		l := d.s.Limits("a", with)
		d.assign(wire.Bulkhead, 0, 1, 1)
		counted := acquire(t, l)
		d.lose()
		d.welcome() // the cell does not go on: counted is extra
		waiter := acquire(t, l)
		l.configure(without)
		waiter.has(t, "of a limit that is gone")
		l.configure(with)
		c, _ := d.assign(wire.Bulkhead, 1, 2, 0)
		if c.Extra(2) != 1 {
			t.Fatalf("extra %d, want 1", c.Extra(2))
		}
		waiter.permit.Release()
		if c.Extra(2) != 1 {
			t.Errorf("extra %d after an uncounted caller ended, want 1 still", c.Extra(2))
		}
		counted.permit.Release()
		if c.Extra(2) != 0 {
			t.Errorf("extra %d at the end", c.Extra(2))
		}
	})
}

// Whatever the agent says, the session lives on.
func TestSenselessMessages(t *testing.T) {
	d := newDesk(t)
	l := d.s.Limits("a", resolved(t, bulkhead(1, 10, time.Millisecond)))
	for _, m := range []*wire.Message{
		{}, {Type: "unheard of"}, {Type: wire.Assign}, {Type: wire.Policies}, {Type: wire.Welcome}, {Type: wire.Hello},
		{Type: wire.Wake, Indexes: []int{-1, 0, 511, 512, 1 << 40}},
		{Type: wire.Assign, Cell: &wire.Cell{Upstream: "nobody", Kind: wire.Bulkhead}},
		{Type: wire.Assign, Cell: &wire.Cell{Upstream: "a", Kind: "no kind"}},
		{Type: wire.Assign, Cell: &wire.Cell{Upstream: "a", Kind: wire.Bulkhead, Index: 512, Epoch: 1}},
		{Type: wire.Assign, Cell: &wire.Cell{Upstream: "a", Kind: wire.Bulkhead, Index: -7, Epoch: 1}},
		{Type: wire.Policies, Set: &policies.Set{Version: 99}},
		{Type: wire.Policies, Set: &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"!": {}}}},
	} {
		d.s.first = make(chan struct{})
		d.s.handle(m)
	}
	p, err := l.Acquire(t.Context())
	if err != nil {
		t.Fatalf("afterwards: %v; want the process's own permit", err)
	}
	p.Release()
	if d.s.Policies() != nil {
		t.Error("a senseless set is in force")
	}
}

// A retry budget's wake-up is an answer: to those whom the agent heard of.
func TestBudgetAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, budget(100)))
		c, _ := d.assign(wire.RetryBudget, 0, 1, 0)
		c.SetTarget(1, 100)
		type answer struct {
			r  Reservation
			ok bool
		}
		ask := func() chan answer {
			got := make(chan answer, 1)
			go func() { r, ok := l.Reserve(t.Context(), 14); got <- answer{r, ok} }()
			synctest.Wait()
			return got
		}
		a := ask()
		b := ask() // after the agent has been asked for the first
		c.Grant(1, 14)
		d.wake(0)
		synctest.Wait()
		if got := <-a; !got.ok {
			t.Fatal("the first was refused, and its tokens are there")
		}
		select {
		case <-b:
			t.Fatal("the second was answered by the answer to the first")
		default:
		}
		c.Grant(1, 14)
		d.wake(0)
		if got := <-b; !got.ok {
			t.Error("the second was refused, and its tokens are there")
		}
		began := time.Now()
		third := ask()
		d.wake(0)
		if got := <-third; got.ok || time.Since(began) != 0 {
			t.Errorf("without tokens: %v after %v, want no at once", got.ok, time.Since(began))
		}
		d.said()
		if _, ok := l.Reserve(t.Context(), 14); ok || d.said() != nil {
			t.Error("right after a no the agent was asked again")
		}
		time.Sleep(budgetNo) // the bubble's clock
		began = time.Now()
		if _, ok := l.Reserve(t.Context(), 14); ok || time.Since(began) != budgetAnswer {
			t.Errorf("an agent that does not answer: %v after %v, want no after %v", ok, time.Since(began), budgetAnswer)
		}
	})
}
