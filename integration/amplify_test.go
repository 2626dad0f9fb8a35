//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"
)

const amplifyWorkers = 20

// TestAmplification counts what twenty processes make of their requests while
// all of them fail, and while one in twenty does. In make soak at 100 requests a
// second for a minute; else faster, for as many requests as show the bounds.
func TestAmplification(t *testing.T) {
	requests, pause := int64(3000), 20*time.Millisecond
	if os.Getenv(soakEnv) != "" {
		requests, pause = 6000, 200*time.Millisecond
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FAILING\tPOLICY\tTIME\tREQUESTS\tSENT\tATTEMPTS PER REQUEST\tSUCCEEDED")
	for _, one := range []struct {
		part         float64
		name, policy string
		most, least  float64 // attempts per request, part that succeeds
		requests     int64
	}{
		{1, "no circuit breaker", "circuit_breaker: {disabled: true}", 1.02, 0, requests},
		{1, "neither, and a budget in each process", "circuit_breaker: {disabled: true}\n    retry_budget: {scope: process}", 3, 0, requests},
		{1, "default", "retry: {}", 1.02, 0, requests},
		{0.05, "default", "retry: {}", 1.1, 0.999, 2 * requests},
	} {
		a := amplify(t, one.part, one.policy, one.requests, pause)
		sent, succeeded := float64(a.attempts)/float64(a.requests), float64(a.succeeded)/float64(a.requests)
		fmt.Fprintf(table, "%v %%\t%s\t%v\t%d\t%d\t%.4f\t%.3f %%\n", 100*one.part, one.name, a.took.Round(100*time.Millisecond), a.requests, a.attempts, sent, 100*succeeded)
		if sent > one.most {
			t.Errorf("%s, %v %% fail: %.4f attempts per request, want at most %v", one.name, 100*one.part, sent, one.most)
		}
		if succeeded < one.least {
			t.Errorf("%s, %v %% fail: %.3f %% succeed, want at least %.1f %%", one.name, 100*one.part, 100*succeeded, 100*one.least)
		}
	}
	table.Flush()
	t.Logf("%d processes, a request every %v each\n%s", amplifyWorkers, pause, text.String())
}

// amplified is what was counted.
type amplified struct {
	requests, attempts, succeeded int64
	took                          time.Duration
}

// amplify has the processes make requests of an upstream of which a part of the
// attempts fails.
func amplify(t *testing.T, part float64, policy string, requests int64, pause time.Duration) (a amplified) {
	t.Helper()
	random := rand.New(rand.NewPCG(seeded(t).Uint64(), 0))
	var mu sync.Mutex
	fails := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64() < part
	}
	var attempts atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		attempts.Add(1)
		if fails() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	h := newHost(t, fmt.Sprintf("version: 1\nupstreams:\n  shop:\n    match: [{host: %q}]\n    %s\n", strings.TrimPrefix(server.URL, "http://"), policy))
	h.start()
	all := h.workers(amplifyWorkers)
	began := monotonic()
	for _, w := range all {
		w.order(order{URL: server.URL, Load: 1, Pause: pause})
	}
	// Each makes its part, and a call takes a little time.
	elapse(time.Duration(requests) * pause / amplifyWorkers * 5 / 4)
	if part < 1 || strings.Contains(policy, "circuit_breaker") { // no circuit opens: on a slow machine it takes longer
		h.eventually("as many requests", func() bool { return attempts.Load() >= requests })
	}
	for _, w := range all {
		w.order(order{})
	}
	for _, w := range all {
		r := w.finish()
		a.requests += r.Calls
		a.succeeded += r.OK
	}
	a.took, a.attempts = monotonic()-began, attempts.Load()
	h.kill()
	return a
}
