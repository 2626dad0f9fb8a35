//go:build linux

package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const pausePolicies = `version: 1
upstreams:
  shop:
    match: [{host: %q}]
    retry: {pause: all, max_retry_after: 20s}
`

// One process is told by Retry-After to come later; another one, that was told
// nothing, does not call either. Status says until when, and who was told.
func TestRetryAfterIsShared(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) > 2 { // both processes have been here
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer server.Close()
	h := newHost(t, fmt.Sprintf(pausePolicies, strings.TrimPrefix(server.URL, "http://")))
	h.start()
	both := h.workers(2)
	u := &upstream{server: server}
	for i, w := range both {
		w.call(u, pathNow, 1)
		h.eventually("called", func() bool { return calls.Load() == int64(i+1) })
	}
	h.eventually("both have a circuit", func() bool {
		all := h.status().Circuits
		return len(all) == 1 && all[0].Callers == 2
	})
	both[0].call(u, pathNow, 1)
	h.eventually("the pause is known", func() bool { return !h.status().Circuits[0].PausedUntil.IsZero() })
	c := h.status().Circuits[0]
	if left := time.Until(c.PausedUntil); left > 20*time.Second || c.PausedBy != both[0].cmd.Process.Pid {
		t.Errorf("paused for %v by pid %d, want at most 20s by %d", left, c.PausedBy, both[0].cmd.Process.Pid)
	}
	both[1].call(u, pathNow, 5)
	h.eventually("refused", func() bool { return len(both[1].failed()) == 5 })
	for _, why := range both[1].failed() {
		if !strings.Contains(why, "Retry-After") {
			t.Errorf("the other process's call ended with %q", why)
		}
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("the upstream saw %d calls, want 3", n)
	}
	for _, w := range both {
		w.finish()
	}
}
