package scenarios

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// run is what came of a simulated overload.
type run struct {
	before, during, after float64       // share of good answers
	attempts              float64       // per request, over everything
	longest               int           // queue at the upstream
	recovered             time.Duration // after restoration; negative: never
}

// TestCapacityHalved: an upstream of 50 workers and 100 ms (500/s) under 400
// requests a second, arriving at random (80 % load). For 10 s it has only 25
// workers (250/s). It finishes abandoned work: that is what makes an overload
// last, because each attempt given up after 1 s is still worked on, and its
// retry comes on top.
//
// Recovered: from some second on, every second has at least 99 % good answers,
// to the end of the run, which is 60 s after the restoration.
//
// The policy with everything on has a bulkhead of 80, twice what 400/s at
// 100 ms need; budget and breaker are as built in. Attempts time out after 1 s
// in every row, and there are 3 of them. The rows in between show what each
// part does alone.
func TestCapacityHalved(t *testing.T) {
	bulkhead := &policies.Bulkhead{MaxConcurrent: 80}
	noBudget := &policies.RetryBudget{Disabled: true}
	noBreaker := &policies.CircuitBreaker{Disabled: true}
	timeout := &policies.Timeout{Attempt: time.Second}
	rows := []struct {
		name string
		p    policies.Policy
	}{
		{"all three off", policies.Policy{RetryBudget: noBudget, CircuitBreaker: noBreaker}},
		{"budget alone", policies.Policy{CircuitBreaker: noBreaker}},
		{"breaker alone", policies.Policy{RetryBudget: noBudget}},
		{"bulkhead alone", policies.Policy{RetryBudget: noBudget, CircuitBreaker: noBreaker, Bulkhead: bulkhead}},
		{"budget and breaker", policies.Policy{}},
		{"budget, breaker and bulkhead", policies.Policy{Bulkhead: bulkhead}},
	}
	t.Logf("%-30s %7s %7s %7s %9s %7s %s", "", "before", "during", "after", "attempts", "queue", "recovered after")
	for _, row := range rows {
		row.p.Timeout = timeout
		r := halve(t, row.p)
		back := "never"
		if r.recovered >= 0 {
			back = r.recovered.String()
		}
		t.Logf("%-30s %6.1f%% %6.1f%% %6.1f%% %9.2f %7d %s",
			row.name, 100*r.before, 100*r.during, 100*r.after, r.attempts, r.longest, back)
		switch row.name {
		case "all three off":
			if r.recovered >= 0 {
				t.Errorf("%s: it recovered after %v; the simulation does not show the trouble", row.name, r.recovered)
			}
		case "budget, breaker and bulkhead":
			if r.recovered < 0 || r.recovered > 15*time.Second {
				t.Errorf("%s: recovered after %s, want at most 15s", row.name, back)
			}
		}
	}
}

// halve runs 10 s at full capacity, 10 s at half, and 60 s at full again.
func halve(t *testing.T, p policies.Policy) (r run) {
	const rate, workers = 400.0, 50
	const seconds, down, up = 80, 10, 20
	synctest.Test(t, func(t *testing.T) {
		server := &upstream{workers: workers, service: 100 * time.Millisecond}
		rt := transportFor(t, server, map[string]policies.Policy{"a": p})
		var mu sync.Mutex
		var asked, good [seconds]int // by the second in which the request came
		rng := rand.New(rand.NewPCG(1, 2))
		began := time.Now()
		time.AfterFunc(down*time.Second, func() { server.set(func(u *upstream) { u.workers = workers / 2 }) })
		time.AfterFunc(up*time.Second, func() { server.set(func(u *upstream) { u.workers = workers }) })
		var wg sync.WaitGroup
		for {
			time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
			second := int(time.Since(began) / time.Second)
			if second >= seconds {
				break
			}
			asked[second]++
			wg.Go(func() {
				if get(rt, "a") {
					mu.Lock()
					good[second]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()

		share := func(from, to int) float64 {
			a, g := 0, 0
			for s := from; s < to; s++ {
				a, g = a+asked[s], g+good[s]
			}
			return float64(g) / float64(a)
		}
		last := up
		for s := up; s < seconds; s++ {
			if float64(good[s]) < 0.99*float64(asked[s]) {
				last = s + 1
			}
		}
		all := 0
		for _, n := range asked {
			all += n
		}
		r = run{share(0, down), share(down, up), share(up, seconds), float64(server.count()) / float64(all),
			server.longest, time.Duration(last-up) * time.Second}
		if last == seconds {
			r.recovered = -1
		}
		for server.load() > 0 { // its work ends inside the bubble
			time.Sleep(time.Second)
		}
	})
	return r
}

// load is what the upstream still has to do.
func (u *upstream) load() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.busy + len(u.queue)
}
