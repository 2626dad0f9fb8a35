package scenarios

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// sight is what a client of two upstreams measures of the healthy one.
type sight struct {
	p99        time.Duration // from the arrival of the work to its answer
	goroutines int           // most of them busy with this upstream at a time
	served     int
}

// TestSlowNeighbour: a program with 64 workers does two kinds of work, 100/s
// each, one per upstream, of 20 ms. Then upstream "slow" takes 8 s, still with
// the same demand. The work for "well" must not notice: its p99, measured from
// when the work arrived at the program, and its goroutines.
//
// What can carry slowness over is what the two share: here the 64 workers. The
// bulkhead on each upstream (16 permits, a queue of 16, 50 ms of waiting) is
// what keeps them apart; the last row shows the same without it.
func TestSlowNeighbour(t *testing.T) {
	with := policies.Policy{
		Timeout:  &policies.Timeout{Attempt: 10 * time.Second},
		Bulkhead: &policies.Bulkhead{MaxConcurrent: 16, MaxWaiting: 16, MaxWait: 50 * time.Millisecond},
	}
	without := policies.Policy{Timeout: with.Timeout}
	healthy := watchNeighbour(t, with, 20*time.Millisecond)
	slow := watchNeighbour(t, with, 8*time.Second)
	bare := watchNeighbour(t, without, 8*time.Second)
	for _, row := range []struct {
		name string
		s    sight
	}{{"both well", healthy}, {"neighbour slow, bulkhead", slow}, {"neighbour slow, no bulkhead", bare}} {
		t.Logf("%-28s p99 %8v, at most %3d goroutines, %5d served", row.name, row.s.p99, row.s.goroutines, row.s.served)
	}
	if limit := healthy.p99 * 105 / 100; slow.p99 > limit {
		t.Errorf("p99 beside a slow upstream is %v, want at most %v", slow.p99, limit)
	}
	if slow.goroutines > healthy.goroutines {
		t.Errorf("%d goroutines beside a slow upstream, %d beside a healthy one", slow.goroutines, healthy.goroutines)
	}
	if slow.served != healthy.served {
		t.Errorf("%d served beside a slow upstream, %d beside a healthy one", slow.served, healthy.served)
	}
	if bare.p99 <= healthy.p99*2 {
		t.Errorf("without a bulkhead p99 is %v: the simulation does not show the trouble", bare.p99)
	}
}

// watchNeighbour runs the program for a minute with the slow upstream taking
// so long.
func watchNeighbour(t *testing.T, p policies.Policy, takes time.Duration) (s sight) {
	synctest.Test(t, func(t *testing.T) {
		well := &upstream{workers: 100, service: 20 * time.Millisecond}
		slow := &upstream{workers: 1000, service: takes}
		rt := transportFor(t, hosts{"well": well, "slow": slow}, map[string]policies.Policy{"well": p, "slow": p})

		type work struct {
			host    string
			arrived time.Time
		}
		todo := make(chan work, 1<<16)
		var mu sync.Mutex
		var took []time.Duration
		busy := 0
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for w := range todo {
					if w.host == "well" {
						mu.Lock()
						busy++
						s.goroutines = max(s.goroutines, busy)
						mu.Unlock()
					}
					good := get(rt, w.host)
					if w.host != "well" {
						continue
					}
					mu.Lock()
					busy--
					if good {
						took = append(took, time.Since(w.arrived))
					}
					mu.Unlock()
				}
			})
		}
		for range 6000 { // a minute
			now := time.Now()
			todo <- work{"slow", now}
			todo <- work{"well", now}
			time.Sleep(10 * time.Millisecond)
		}
		close(todo)
		wg.Wait()
		slices.Sort(took)
		s.p99, s.served = took[len(took)*99/100], len(took)
	})
	return s
}
