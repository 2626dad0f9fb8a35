//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// FuzzAPI sends what anybody may write to every route of the admin socket,
// which has those of the agent's socket too. Whatever it is, the answer is one
// of the API, a problem says what to do, and the agent serves on.
func FuzzAPI(f *testing.F) {
	a := &Agent{Load: func() (*policies.Snapshot, error) { return compiled(policy(5, 0, 0, 0)), nil }}
	dir := f.TempDir()
	l, err := Listen(filepath.Join(dir, "s"), 0o600)
	if err != nil {
		f.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	a.Listener, a.Ledger, a.Ready = l, filepath.Join(dir, "ledger"), func() { close(ready) }
	ctx, stop := context.WithCancel(context.Background())
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		f.Fatal(err)
	}
	f.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})

	near, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		f.Fatal(err)
	}
	defer near.Close()
	routes := a.routes()
	at := func(method, path string) uint8 {
		return uint8(slices.IndexFunc(routes, func(r route) bool { return r.method == method && r.path == path }))
	}
	overrides, clear, breakers := at("POST", "/v1/overrides"), at("DELETE", "/v1/overrides"), at("POST", "/v1/breakers")
	f.Add(overrides, "", `{"upstream":"a","values":{"bulkhead.max_concurrent":"20"},"for":"30m","reason":"r"}`)
	f.Add(overrides, "", `{"upstream":"\u0000\u001b[2J","values":{"bulkhead.max_concurrent":"-1"},"for":"9999999h"}`)
	f.Add(overrides, "", `{"values":{"a":"b","c":{}}}`)
	f.Add(clear, "upstream=a", "")
	f.Add(breakers, "upstream=a&to=open&for=30m&reason=r", "")
	f.Add(breakers, "upstream=%00%1b&to=closed&for=-1h", "")
	f.Add(at("POST", "/v1/reload"), "", "{")
	f.Add(at("GET", "/v1/explain"), "method=%0a&url=http://a:99999/%zz", "")
	f.Add(at("GET", "/v1/events"), "after=-1&wait=x", "")
	h := a.changing()
	f.Fuzz(func(t *testing.T, which uint8, query, body string) {
		one := routes[int(which)%len(routes)]
		method, path := one.method, one.path
		// A stream of events ends with its caller.
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), connKey{}, net.Conn(near)), 50*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, method, "http://resagent"+path, strings.NewReader(body))
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 400 {
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Title == "" || p.Status != w.Code || !strings.HasPrefix(p.Type, ProblemTypes) {
				t.Errorf("%s %s?%q %q: %d is not a problem that says what it is: %s", method, path, query, body, w.Code, w.Body)
			}
		}
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("%s %s?%q %q: %d: %s", method, path, query, body, w.Code, w.Body)
		}
		if err := a.Live(t.Context()); err != nil {
			t.Fatalf("%s %s?%q %q: the allocator stands still: %v", method, path, query, body, err)
		}
	})
}
