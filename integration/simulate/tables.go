//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// quantile is a quantile of sorted values.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(float64(len(sorted)-1)*q)]
}

// hostTable tries more and more processes on one limit of the host.
func hostTable(processors, most int, c costs, d time.Duration, seed uint64) error {
	fmt.Printf("A host of %d processors; %v of processor time a call, so at most %.1f million calls a second.\n",
		processors, c.call, float64(processors)/c.call.Seconds()/1e6)
	for _, k := range []struct {
		name    string
		limit   int
		service time.Duration
		think   time.Duration
	}{
		{"a limit that is not reached, calls of 10 ms", 16 * most, 10 * time.Millisecond, 10 * time.Millisecond},
		{"a limit of %d that all want all the time, calls of 10 ms", processors, 10 * time.Millisecond, 0},
		{"a limit of %d that all want all the time, calls of 1 ms", processors, time.Millisecond, 0},
	} {
		if k.think == 0 {
			k.name = fmt.Sprintf(k.name, k.limit)
		}
		fmt.Printf("\n%s\n%10s %12s %10s %10s %12s %12s %9s %10s %10s\n", k.name,
			"processes", "calls/s", "hints/s", "wakes/s", "lock busy", "processors", "use", "of demand", "longest")
		broken := ""
		for n := 2; ; n = min(4*n, most) {
			o, err := simulate(setup{processes: n, limit: k.limit, callers: 4, service: k.service, think: k.think, start: d}, c, d, seed)
			if err != nil {
				return err
			}
			per := func(n int) float64 { return float64(n) / d.Seconds() }
			busy := o.busy.Seconds() / d.Seconds()
			fmt.Printf("%10d %12.0f %10.0f %10.0f %11.1f%% %12.2f %9.3f %10.3f %10v\n", n, per(o.calls), per(o.hints), per(o.wakes),
				100*busy, (o.busy+o.messages).Seconds()/d.Seconds(), o.used, o.used/o.demand, o.longest.Round(time.Microsecond))
			if broken == "" && busy > 0.9 {
				broken = fmt.Sprintf("the agent's lock is busy %.0f %% of the time at %d processes", 100*busy, n)
			}
			if broken == "" && o.used < 0.95*o.demand {
				broken = fmt.Sprintf("%.0f %% of the limit is used at %d processes, with the lock busy %.0f %%", 100*o.used/o.demand, n, 100*busy)
			}
			if n == most {
				break
			}
		}
		if broken == "" {
			broken = fmt.Sprintf("nothing, up to %d processes", most)
		}
		fmt.Println("breaks first:", broken)
	}
	return nil
}

// stormTable has all processes ask for their first permit within 1 ms, as after
// a pause of the upstream, of a limit that has enough for all.
func stormTable(most int, c costs, seed uint64) error {
	fmt.Printf("\nall processes ask within 1 ms, for permits that are there\n%10s %10s %14s %14s %10s\n", "processes", "hints", "median waits", "last waits", "longest")
	broken := ""
	for n := 8; ; n = min(4*n, most) {
		o, err := simulate(setup{processes: n, limit: 8 * n, callers: 4, service: time.Millisecond, start: time.Millisecond, once: true}, c, time.Minute, seed)
		if err != nil {
			return err
		}
		last := quantile(o.late, 1)
		fmt.Printf("%10d %10d %14v %14v %10v\n", n, o.hints, quantile(o.late, 0.5).Round(time.Microsecond), last.Round(time.Microsecond), o.longest.Round(time.Microsecond))
		if broken == "" && quantile(o.late, 0.99) > 5*time.Millisecond {
			broken = fmt.Sprintf("a free permit and a waiter do not meet within 5 ms (p99) at %d processes", n)
		}
		if n == most {
			break
		}
	}
	if broken == "" {
		broken = fmt.Sprintf("nothing, up to %d processes", most)
	}
	fmt.Println("breaks first:", broken)
	return nil
}

// bounds finds how many limits so many processes can all use before the ledger
// is full.
func bounds(processes int) error {
	const upstreams = 128
	set := &policies.Set{Version: 1, Upstreams: make(map[string]policies.Policy)}
	for i := range upstreams {
		set.Upstreams[fmt.Sprintf("u%d", i)] = policies.Policy{Bulkhead: &policies.Bulkhead{MaxConcurrent: 10}}
	}
	compiled, err := policies.Compile(set)
	if err != nil {
		return err
	}
	a := agent.NewAllocation(compiled)
	defer a.Close()
	for pid := range processes {
		if _, err := a.Join(pid, 1000); err != nil {
			fmt.Printf("\nprocesses: the ledger is full at %d\n", pid)
			return nil
		}
	}
	for i := range upstreams {
		for pid := range processes {
			if _, err := a.Open(pid, fmt.Sprintf("u%d", i), wire.Bulkhead, 0); err != nil {
				fmt.Printf("\nlimits: %d processes can all use %d of them; then: %v\n", processes, i, err)
				return nil
			}
		}
	}
	fmt.Printf("\nlimits: %d processes can all use %d of them\n", processes, upstreams)
	return nil
}
