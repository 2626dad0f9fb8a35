//go:build linux

package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// The allocation without an agent around it decides as the agent does: who
// waits gets what is free, is woken, and gets what another has lying idle.
func TestAllocationAlone(t *testing.T) {
	a := NewAllocation(compiled(policy(4, 0, 0, 0)))
	defer a.Close()
	var woken []int
	a.Woken = func(pid, _ int) { woken = append(woken, pid) }
	now := time.Second
	for pid := 1; pid <= 2; pid++ {
		p, err := a.Join(pid, 1000)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Open(pid, "u", wire.Bulkhead, now)
		if err != nil {
			t.Fatal(err)
		}
		cell := p.Cell(c.Index)
		cell.SetWaiting(c.Epoch, 2)
		a.Hint(pid, c.Index, now)
		a.Tick(now)
		cell.Awake()
		if !cell.Acquire(c.Epoch, 2) {
			t.Errorf("process %d waits for 2 of 4 and has %+v", pid, cell.Read())
		}
		cell.SetWaiting(c.Epoch, 0)
		now += 10 * time.Millisecond
	}
	if !slices.Equal(woken, []int{1, 2}) {
		t.Errorf("woken: %v, want each process once", woken)
	}
	if _, err := a.Open(1, "u", wire.RateLimit, now); err == nil {
		t.Error("a cell was opened for a limit that no policy has")
	}
}
