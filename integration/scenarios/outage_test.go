package scenarios

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// TestTotalFailure: 100 requests a second for 60 s to an upstream that answers
// nothing but 503. The first row has the default budget do it alone, the second
// is what a named upstream gets with nothing said.
func TestTotalFailure(t *testing.T) {
	const rate, lasts = 100, 60 * time.Second
	off := &policies.CircuitBreaker{Disabled: true}
	for _, row := range []struct {
		name string
		p    policies.Policy
		most float64
	}{
		{"default budget, breaker off", policies.Policy{CircuitBreaker: off}, 1.02},
		{"defaults", policies.Policy{}, 1.02},
		{"budget and breaker off", policies.Policy{CircuitBreaker: off, RetryBudget: &policies.RetryBudget{Disabled: true}}, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			up := &upstream{workers: 1, failing: true}
			rt := transportFor(t, up, map[string]policies.Policy{"a": row.p})
			var wg sync.WaitGroup
			requests := 0
			for began := time.Now(); time.Since(began) < lasts; time.Sleep(time.Second / rate) {
				requests++
				wg.Go(func() { get(rt, "a") })
			}
			wg.Wait()
			ratio := float64(up.count()) / float64(requests)
			t.Logf("%-28s %d requests, %5d attempts, %.4f per request (wanted: at most %.2f)",
				row.name, requests, up.count(), ratio, row.most)
			if ratio > row.most {
				t.Errorf("%s: %.4f attempts per request, want at most %.2f", row.name, ratio, row.most)
			}
		})
	}
}
