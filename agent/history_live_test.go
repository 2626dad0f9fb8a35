//go:build linux

package agent_test

import (
	"slices"
	"testing"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// What processes used is in the history: permits at their peak, each token
// once, and what is gone from a budget; nothing of what nobody used.
func TestHistory(t *testing.T) {
	h := newHost(t, &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
		"shop": {
			Bulkhead:  &policies.Bulkhead{MaxConcurrent: 10},
			RateLimit: &policies.RateLimit{Rate: 1000, Burst: 100},
		},
		"idle": {Bulkhead: &policies.Bulkhead{MaxConcurrent: 10}},
	}})
	of := func(kind wire.Kind) agent.LimitHistory {
		for _, one := range h.running.History().Limits {
			if one.Upstream != "shop" {
				t.Fatalf("there is a history of %s %s, which nobody used", one.Upstream, one.Kind)
			}
			if one.Kind == kind {
				return one
			}
		}
		return agent.LimitHistory{InUse: []int{0}, Waiting: []int{0}, Taken: []int{0}}
	}
	sum := func(all []int) (n int) {
		for _, one := range all {
			n += one
		}
		return n
	}
	sessions := []*client.Session{h.session(), h.session()}
	var permits []client.Permit
	for i := range 7 { // on both sides
		l := limitsOf(sessions[i%2], "shop")
		p, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		permits = append(permits, p)
		for range 10 {
			if err := l.Take(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, ok := limitsOf(sessions[0], "shop").Reserve(t.Context(), 14)
	if !ok {
		t.Fatal("no reservation")
	}
	until(t, "7 permits in use", func() bool { return slices.Max(of(wire.Bulkhead).InUse) == 7 })
	until(t, "70 tokens taken", func() bool { return sum(of(wire.RateLimit).Taken) == 70 })
	until(t, "14 tokens gone", func() bool { return slices.Max(of(wire.RetryBudget).InUse) == 14 })
	r.Refund()
	for _, p := range permits {
		p.Release()
	}
	// What is over stays in the history, also when the processes have gone.
	for _, s := range sessions {
		s.Close()
	}
	until(t, "all gone", func() bool { return len(h.running.Status().Sessions) == 0 })
	if sum(of(wire.Bulkhead).Samples) == 0 {
		t.Error("no second was seen")
	}
	if n := sum(of(wire.RateLimit).Taken); n != 70 {
		t.Errorf("%d tokens taken, after all is over: want 70", n)
	}
	if n := slices.Max(of(wire.Bulkhead).InUse); n != 7 {
		t.Errorf("%d in use at most, after all is over: want 7", n)
	}
}
