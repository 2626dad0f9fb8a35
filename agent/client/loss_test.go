//go:build linux

package client

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

func losing(mode policies.AgentLoss, n int, wait time.Duration) policies.Policy {
	p := bulkhead(n, 100, wait)
	p.OnAgentLoss = mode
	p.Bulkhead.LocalMaxConcurrent = 2
	return p
}

// hold: what was granted goes on without the agent, all of it and no more.
func TestHoldUsesWhatWasGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, losing(policies.LossHold, 5, 100*time.Millisecond)))
		c, _ := d.assign(wire.Bulkhead, 0, 1, 2)
		d.lose()
		if d.s.Mode() != Lost {
			t.Fatalf("mode %s, want lost", d.s.Mode())
		}
		a, b := acquire(t, l), acquire(t, l)
		a.has(t, "the first granted permit")
		b.has(t, "the second granted permit")
		w := acquire(t, l)
		time.Sleep(500 * time.Millisecond) // far beyond its max_wait
		w.waits(t, "within the grace")
		a.permit.Release()
		w.has(t, "what was given back")
		d.cell("without the agent", c, page.Word{Epoch: 1, InUse: 2})
	})
}

// hold: the agent comes back within the grace, and refuses nobody.
func TestHoldWaitsForTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, losing(policies.LossHold, 5, 100*time.Millisecond)))
		c, cell := d.assign(wire.Bulkhead, 0, 1, 0)
		d.lose()
		w := acquire(t, l)
		time.Sleep(1900 * time.Millisecond)
		w.waits(t, "at the end of the grace")
		d.welcome(cell)
		time.Sleep(50 * time.Millisecond)
		w.waits(t, "while the agent counts")
		c.SetTarget(1, 5)
		c.Grant(1, 1)
		d.wake(0)
		w.has(t, "what the returned agent granted")
		if c.Extra(1) != 0 {
			t.Errorf("extra %d, want none: nobody used the floor", c.Extra(1))
		}
	})
}

// hold: after the grace each process has one permit at a time, marked in the
// cell until it ends.
func TestHoldHasAFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, losing(policies.LossHold, 5, 100*time.Millisecond)))
		c, cell := d.assign(wire.Bulkhead, 0, 1, 0)
		d.lose()
		first, second := acquire(t, l), acquire(t, l)
		time.Sleep(grace - time.Nanosecond)
		first.waits(t, "within the grace")
		time.Sleep(time.Nanosecond)
		first.has(t, "the floor")
		if first.took != grace {
			t.Errorf("the floor after %v, want the grace of %v", first.took, grace)
		}
		second.refused(t, "beside the floor", WaitOver, grace)
		if c.Extra(1) != 1 {
			t.Errorf("extra %d, want the floor's 1", c.Extra(1))
		}
		third := acquire(t, l)
		third.waits(t, "while the floor is in use")
		first.permit.Release()
		third.has(t, "the floor in its turn")
		late := acquire(t, l)
		time.Sleep(100 * time.Millisecond)
		late.refused(t, "after the grace", WaitOver, 100*time.Millisecond)
		d.welcome(cell)
		if c.Extra(1) != 1 {
			t.Errorf("extra %d after the agent's return, want 1 as long as the floor is in use", c.Extra(1))
		}
		next := acquire(t, l)
		next.waits(t, "no floor with the agent there")
		third.permit.Release()
		if c.Extra(1) != 0 {
			t.Errorf("extra %d after the floor ended, want 0", c.Extra(1))
		}
		next.waits(t, "a floor that ended is no permit")
	})
}

// hold: a permit that was granted is used first, and then there is no floor.
func TestNoFloorBesideAGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, losing(policies.LossHold, 5, 100*time.Millisecond)))
		c, _ := d.assign(wire.Bulkhead, 0, 1, 1)
		d.lose()
		time.Sleep(2 * grace)
		acquire(t, l).has(t, "the granted permit")
		w := acquire(t, l)
		time.Sleep(100 * time.Millisecond)
		w.refused(t, "beside a granted permit", WaitOver, 100*time.Millisecond)
		if c.Extra(1) != 0 {
			t.Errorf("extra %d, want none", c.Extra(1))
		}
	})
}

// A caller's own deadline is never passed for the agent's sake.
func TestHoldRespectsTheCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, losing(policies.LossHold, 5, 100*time.Millisecond)))
		d.assign(wire.Bulkhead, 0, 1, 0)
		d.lose()
		w := acquire(t, l)
		time.Sleep(700 * time.Millisecond)
		w.cancel(nil)
		if !w.over() || w.err == nil || w.took != 700*time.Millisecond {
			t.Error("want the context's error at once")
		}
	})
}

// hold: ten times as many may wait meanwhile.
func TestHoldLetsMoreWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		p := losing(policies.LossHold, 2, time.Minute)
		p.Bulkhead.MaxWaiting = 3
		l := d.s.Limits("a", resolved(t, p))
		d.assign(wire.Bulkhead, 0, 1, 0)
		time.Sleep(200 * time.Millisecond) // right after a welcome more may wait
		for range 3 {
			acquire(t, l).waits(t, "in the queue")
		}
		acquire(t, l).refused(t, "the fourth", QueueFull, 0)
		d.lose()
		for range 27 {
			acquire(t, l).waits(t, "in the longer queue")
		}
		acquire(t, l).refused(t, "the thirty-first", QueueFull, 0)
	})
}

func TestStrictRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, losing(policies.LossStrict, 5, time.Minute)))
		d.assign(wire.Bulkhead, 0, 1, 1)
		a := acquire(t, l)
		waiter := acquire(t, l)
		time.Sleep(time.Second)
		d.lose()
		waiter.refused(t, "who waited when the agent was lost", AgentLost, time.Second)
		acquire(t, l).refused(t, "a new caller", AgentLost, 0)
		a.permit.Release()
		acquire(t, l).has(t, "what was granted")
	})
}

func TestLocalHasItsOwnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		p := losing(policies.LossLocal, 5, time.Minute)
		l := d.s.Limits("a", resolved(t, p))
		c, _ := d.assign(wire.Bulkhead, 0, 1, 1)
		d.lose()
		a, b := acquire(t, l), acquire(t, l)
		a.has(t, "the granted permit, the first of the local two")
		b.has(t, "the second of the local two")
		if c.Extra(1) != 1 {
			t.Errorf("extra %d, want 1 beyond what was granted", c.Extra(1))
		}
		w := acquire(t, l)
		w.waits(t, "the third of the local two")
		b.permit.Release()
		w.has(t, "what was given back")
	})
}

func TestOpenHasNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, losing(policies.LossOpen, 1, time.Minute)))
		c, cell := d.assign(wire.Bulkhead, 0, 1, 1)
		d.lose()
		var all []*caller
		for range 20 {
			one := acquire(t, l)
			one.has(t, "without the agent")
			all = append(all, one)
		}
		if c.Extra(1) != 19 {
			t.Errorf("extra %d, want the 19 beyond the one that was granted", c.Extra(1))
		}
		d.welcome(cell)
		for _, one := range all {
			one.permit.Release()
		}
		d.cell("at the end", c, page.Word{Epoch: 1, Available: 1})
		if c.Extra(1) != 0 {
			t.Errorf("extra %d at the end", c.Extra(1))
		}
	})
}

// hold for a rate: tokens in the cell, then nothing for the grace, then one
// call a second.
func TestRateFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		l := d.s.Limits("a", resolved(t, rateLimit(100, 10, 100*time.Millisecond)))
		c, _ := d.assign(wire.RateLimit, 0, 1, 3)
		d.lose()
		for range 3 {
			if err := l.Take(t.Context()); err != nil {
				t.Fatalf("a granted token: %v", err)
			}
		}
		d.cell("three spent", c, page.Word{Epoch: 1})
		began := time.Now()
		if err := l.Take(t.Context()); err != nil || time.Since(began) != grace {
			t.Fatalf("the floor: %v after %v, want it after the grace", err, time.Since(began))
		}
		passed := 0
		for began := time.Now(); time.Since(began) < 10*time.Second; {
			if l.Take(t.Context()) == nil {
				passed++
			}
		}
		if passed < 9 || passed > 10 {
			t.Errorf("%d calls in 10 s on the floor, want one a second", passed)
		}
	})
}

func TestRateStrict(t *testing.T) {
	d := newDesk(t)
	p := rateLimit(100, 10, time.Minute)
	p.OnAgentLoss = policies.LossStrict
	l := d.s.Limits("a", resolved(t, p))
	d.assign(wire.RateLimit, 0, 1, 1)
	d.lose()
	if err := l.Take(t.Context()); err != nil {
		t.Errorf("the granted token: %v", err)
	}
	wantRefused(t, "the next", l.Take(t.Context()), AgentLost)
}

// local for a rate: the stated local rate, not the host's.
func TestRateLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		p := rateLimit(1000, 500, policies.None)
		p.OnAgentLoss = policies.LossLocal
		p.RateLimit.LocalRate = 10
		l := d.s.Limits("a", resolved(t, p))
		d.assign(wire.RateLimit, 0, 1, 0)
		d.lose()
		passed := 0
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
			if l.Take(t.Context()) == nil {
				passed++
			}
		}
		if passed < 90 || passed > 111 {
			t.Errorf("%d calls in 10 s at a local rate of 10/s", passed)
		}
	})
}

// scope: process is not about the agent: local_rate has no say.
func TestRateOfTheProcessIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		shared := rateLimit(100, 1, time.Minute)
		shared.OnAgentLoss = policies.LossLocal
		shared.RateLimit.LocalRate = 1
		own := shared
		section := *shared.RateLimit
		section.Scope = policies.ScopeProcess
		own.RateLimit = &section
		l := d.s.Limits("a", resolved(t, shared))
		d.assign(wire.RateLimit, 0, 1, 0)
		l.configure(resolved(t, own))
		l.Take(t.Context())
		began := time.Now()
		if err := l.Take(t.Context()); err != nil || time.Since(began) > 20*time.Millisecond {
			t.Errorf("the second token of 100/s: %v after %v, want it after 10 ms", err, time.Since(began))
		}
	})
}

func TestBudgetWithoutTheAgent(t *testing.T) {
	for _, mode := range []policies.AgentLoss{policies.LossHold, policies.LossStrict, policies.LossOpen} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			p := budget(100)
			p.OnAgentLoss = mode
			l := d.s.Limits("a", resolved(t, p))
			c, _ := d.assign(wire.RetryBudget, 0, 1, 14)
			c.SetTarget(1, 100)
			d.lose()
			r, ok := l.Reserve(t.Context(), 14)
			if !ok {
				t.Fatalf("%s: what was granted is refused", mode)
			}
			began := time.Now()
			if _, ok := l.Reserve(t.Context(), 14); ok != (mode == policies.LossOpen) || time.Since(began) != 0 {
				t.Errorf("%s: a further retry: %v after %v", mode, ok, time.Since(began))
			}
			r.Consume()
			d.cell(string(mode), c, page.Word{Epoch: 1})
		})
	}
}
