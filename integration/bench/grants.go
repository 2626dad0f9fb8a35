package main

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// The part's name, and how its things are called.
const (
	partGrants = "grants"
	handedOver = "a permit taken back and granted, %d processes on the limit"
)

// grants measures the agent's decision alone, without messages: the one permit
// lies idle in one process, another asks, and gets it. It is one grant.
func grants(book *book) error {
	var runs []contestant
	var all []*page.Page
	for _, n := range []int{2, 10, 100, 1000} {
		set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
			"upstream": {Bulkhead: &policies.Bulkhead{MaxConcurrent: 1}},
		}})
		if err != nil {
			return err
		}
		a := agent.NewAllocation(set)
		defer a.Close()
		now := time.Second
		cells := make([]*page.Cell, n)
		epochs := make([]uint16, n)
		for pid := range n {
			p, err := a.Join(pid, 1000)
			if err != nil {
				return err
			}
			c, err := a.Open(pid, "upstream", wire.Bulkhead, now)
			if err != nil {
				return err
			}
			all = append(all, p)
			cells[pid], epochs[pid] = p.Cell(c.Index), c.Epoch
		}
		pid := 0
		runs = append(runs, contestant{fmt.Sprintf(handedOver, n), float64(n), func(b *testing.B) {
			for b.Loop() {
				pid = (pid + 1) % n
				now += 10 * time.Millisecond // its last holder has had its turn
				c, epoch := cells[pid], epochs[pid]
				c.SetWaiting(epoch, 1)
				a.Hint(pid, 0, now)
				c.Awake()
				if !c.Acquire(epoch, 1) {
					b.Fatalf("process %d was not given the idle permit: %+v", pid, c.Read())
				}
				c.SetWaiting(epoch, 0)
				c.Release(epoch, 1)
			}
		}})
	}
	err := book.race(partGrants, runs)
	runtime.KeepAlive(all)
	return err
}
