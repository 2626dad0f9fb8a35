//go:build linux

package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/transport"
)

// What the transport counts is what the upstream saw and the callers got,
// whichever limit's cell it is counted in.
func TestTrafficIsWhatHappened(t *testing.T) {
	t.Parallel()
	const unshared = "none"
	const policy = `version: 1
upstreams:
  shop:
    match: [{host: %s}]
    retry: {max_attempts: 3, backoff: {base: 1ms, max: 1ms}}
    circuit_breaker: {consecutive_failures: 100, min_requests: 100}
    fallback: {static: {status: 200, body: "[]"}}
%s`
	for name, limits := range map[string]string{
		"budget":   "",
		"bulkhead": "    bulkhead: {max_concurrent: 5}\n",
		"rate":     "    rate_limit: {rate: 1000/s, burst: 1000}\n    retry_budget: {scope: process}\n",
		unshared:   "    retry_budget: {scope: process}\n",
	} {
		t.Run(name, func(t *testing.T) {
			var fails atomic.Int64
			var sent atomic.Uint64
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent.Add(1)
				if fails.Add(-1) >= 0 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			defer up.Close()
			address := strings.TrimPrefix(up.URL, "http://")
			h := newHost(t, fmt.Sprintf(policy, address, limits))
			h.start()
			session := &client.Session{Socket: h.socket()}
			defer session.Close()
			session.Attach(t.Context())
			c := &http.Client{Transport: &transport.Transport{Agent: session}}
			call := func(method string) {
				t.Helper()
				req, _ := http.NewRequest(method, up.URL, nil)
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			call("GET") // until there is a cell, what is called is not counted
			if name != unshared {
				h.eventually("a cell", func() bool { l := h.status().Limits; return len(l) > 0 && l[0].Processes == 1 })
				h.eventually("a call that is counted", func() bool { call("GET"); return h.calls().Total() > 0 })
			}
			before, was := h.calls(), sent.Load()
			for range 10 {
				call("GET")
			}
			fails.Store(1)
			call("GET") // two attempts
			fails.Store(3)
			call("GET") // three, and the fixed answer
			fails.Store(1)
			call("POST") // one, and its 503
			got := h.calls()
			got = agent.Calls{Sent: got.Sent - before.Sent, Unsent: got.Unsent - before.Unsent, Attempts: got.Attempts - before.Attempts, Fallback: got.Fallback - before.Fallback}
			want := agent.Calls{Sent: 13, Attempts: sent.Load() - was, Fallback: 1}
			if name == unshared {
				want = agent.Calls{}
			}
			if got != want || sent.Load()-was != 16 {
				t.Errorf("counted %+v, want %+v; the upstream got %d", got, want, sent.Load()-was)
			}
			if name == unshared {
				return
			}
			if _, problems, err := h.run("breaker", "shop", "open", "--reason", "test"); err != nil {
				t.Fatalf("breaker: %v %s", err, problems)
			}
			before = h.calls()
			call("GET")
			if got := h.calls(); got.Unsent != before.Unsent+1 || got.Fallback != before.Fallback+1 || got.Sent != before.Sent {
				t.Errorf("refused by an open circuit, and answered by the fallback: %+v after %+v", got, before)
			}
		})
	}
}

// calls are those that the host has counted of its one upstream.
func (h *host) calls() agent.Calls {
	h.t.Helper()
	if all := h.status().Upstreams; len(all) > 0 {
		return all[0].Calls.Calls
	}
	return agent.Calls{}
}
