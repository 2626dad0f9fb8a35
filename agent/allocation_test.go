//go:build linux

package agent

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/page"
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

// Where many hold a limit, hints that come faster than looks are answered
// together, by a look that is brought forward; nobody's is lost.
func TestHintsOfManyAnsweredTogether(t *testing.T) {
	const processes = crowd + 100
	a := NewAllocation(compiled(policy(processes+1, 0, 0, 0)))
	defer a.Close()
	woken := 0
	a.Woken = func(int, int) { woken++ }
	now := time.Second
	var pages []*page.Page
	for pid := range processes {
		p, err := a.Join(pid, 1000)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Open(pid, "u", wire.Bulkhead, now)
		if err != nil {
			t.Fatal(err)
		}
		p.Cell(c.Index).SetWaiting(c.Epoch, 1)
		pages = append(pages, p)
	}
	a.Hint(0, 0, now)
	if woken != processes {
		t.Fatalf("the first hint woke %d, want all %d that wait: one look reads all cells", woken, processes)
	}
	for _, p := range pages {
		c := p.Cell(0)
		c.Awake()
		c.Acquire(c.Read().Epoch, 1)
		c.SetWaiting(c.Read().Epoch, 0)
	}
	// One is left, and process 0 asks for it.
	pages[0].Cell(0).SetWaiting(pages[0].Cell(0).Read().Epoch, 1)
	woken = 0
	later := now + 50*time.Microsecond
	a.Hint(0, 0, later)
	if woken != 0 {
		t.Errorf("a hint %v after a look at %d cells was answered by another look", later-now, processes)
	}
	next := a.Tick(later)
	if want := now + 100*apart; next != want {
		t.Fatalf("the next look is planned %v after the last, want %v", next-now, want-now)
	}
	a.Tick(next)
	if w := pages[0].Cell(0).Read(); w.Available != 1 || woken != 1 {
		t.Errorf("process 0 has %+v and was woken %d times, want the free permit and once", w, woken)
	}
	runtime.KeepAlive(pages)
}
