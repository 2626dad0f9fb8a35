//go:build linux

package agent_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// web is an HTTP client of one of the agent's sockets.
func (h *host) web(socket string) *http.Client {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.dir, socket))
	}}
	h.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

type problem = agent.Problem

func TestAnswers(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	agentSocket, admin := h.web("agent.sock"), h.web("admin.sock")
	tag := `"` + h.running.Status().ETag + `"`
	for name, one := range map[string]struct {
		c       *http.Client
		request string // method, path, and "field: value"
		status  int
		detail  string // of a problem
	}{
		"health":             {agentSocket, "GET /healthz", 200, ""},
		"status":             {agentSocket, "GET /v1/status", 200, ""},
		"status, admin":      {admin, "GET /v1/status", 200, ""},
		"policies":           {agentSocket, "GET /v1/policies", 200, ""},
		"policies, known":    {agentSocket, "GET /v1/policies If-None-Match: " + tag, 304, ""},
		"policies, other":    {agentSocket, `GET /v1/policies If-None-Match: "other"`, 200, ""},
		"explain":            {agentSocket, "GET /v1/explain?url=http://shop/x", 200, ""},
		"explain, no URL":    {agentSocket, "GET /v1/explain", 400, "absolute URL"},
		"explain, no host":   {agentSocket, "GET /v1/explain?url=/x", 400, "absolute URL"},
		"explain, wrong URL": {agentSocket, "GET /v1/explain?url=%3A%2F%2F%zz", 400, "absolute URL"},
		"no upgrade":         {agentSocket, "GET /v1/session", 426, wire.Upgrade},
		"another upgrade":    {agentSocket, "GET /v1/session Upgrade: websocket", 426, wire.Upgrade},
		"reload":             {admin, "POST /v1/reload", 200, ""},
		"reload by reading":  {admin, "GET /v1/reload", 405, "use POST"},
		"clear of nobody":    {admin, "DELETE /v1/overrides?upstream=", 400, "write ?upstream=NAME, or no query"},
		"clear of a typo":    {admin, "DELETE /v1/overrides?upstreams=shop", 400, "write ?upstream=NAME, or no query"},
		"clear of a mistake": {admin, "DELETE /v1/overrides?upstream=a;b", 400, "write ?upstream=NAME, or no query"},
		"reload, not here":   {agentSocket, "POST /v1/reload", 404, "admin.sock"},
		"status is not sent": {agentSocket, "POST /v1/status", 405, "use GET or HEAD"},
		"nothing there":      {agentSocket, "GET /v1/nothing", 404, "/v1/status"},
		"the root":           {agentSocket, "GET /", 404, "/v1/status"},
		"of a name":          {agentSocket, "GET /v1/explain?upstream=shop", 200, ""},
		"of an unknown name": {agentSocket, "GET /v1/explain?upstream=shpo", 404, "/v1/policies"},
		"history":            {agentSocket, "GET /v1/history", 200, ""},
		"circuit of nobody":  {admin, "POST /v1/breakers?upstream=shpo&to=open&for=1m", 404, "/v1/policies"},
	} {
		t.Run(name, func(t *testing.T) {
			parts := strings.SplitN(one.request, " ", 3)
			r, err := http.NewRequest(parts[0], "http://resagent"+parts[1], nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(parts) > 2 {
				field, value, _ := strings.Cut(parts[2], ": ")
				r.Header.Set(field, value)
			}
			resp, err := one.c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != one.status {
				t.Fatalf("%s: %s, want %d", resp.Status, body, one.status)
			}
			kind := resp.Header.Get("Content-Type")
			if one.status == 200 && (kind != "application/json" || !json.Valid(body)) {
				t.Errorf("%s: %q is no JSON", kind, body)
			}
			if one.detail != "" {
				var p problem
				if err := json.Unmarshal(body, &p); err != nil || kind != "application/problem+json" || p.Status != one.status || p.Title == "" || !strings.HasPrefix(p.Type, agent.ProblemTypes) || !strings.Contains(p.Detail, one.detail) {
					t.Errorf("%s: %s, want a problem whose detail says %q", kind, body, one.detail)
				}
			}
			if one.status == 405 && resp.Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if one.status == 426 && resp.Header.Get("Upgrade") != wire.Upgrade {
				t.Errorf("426 without Upgrade: %v", resp.Header)
			}
			if strings.Contains(one.request, "/v1/policies") && resp.Header.Get("ETag") != tag {
				t.Errorf("ETag %s, want %s", resp.Header.Get("ETag"), tag)
			}
		})
	}
}

// A bad reload over HTTP says all that is wrong.
func TestReloadOverHTTP(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	h.set.Store(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
		"shop": {Bulkhead: &policies.Bulkhead{MaxConcurrent: -5}}, "other": {RateLimit: &policies.RateLimit{}},
	}})
	resp, err := h.web("admin.sock").Post("http://resagent/v1/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != 422 || p.Status != 422 ||
		len(p.Mistakes) != 2 || !strings.Contains(p.Detail, "max_concurrent") || !strings.Contains(p.Detail, "upstreams.other.rate_limit") {
		t.Errorf("%s: %+v, %v; want 422 with both errors", resp.Status, p, err)
	}
}

func TestStatusNumbers(t *testing.T) {
	h := newHost(t, bulkhead(5, 10, time.Second))
	o, idle := bring(t), bring(t)
	r, _ := h.greet(o)
	r.open(o, 2)
	h.greet(idle)
	resp, err := h.web("agent.sock").Get("http://resagent/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var s agent.Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Generation != 1 || s.Named != 1 || s.Ledger != "kept" || len(s.Sessions) != 2 || !s.Sessions[0].Shares || len(s.Limits) != 1 {
		t.Fatalf("status %+v", s)
	}
	l := s.Limits[0]
	if l.Upstream != "shop" || l.Kind != wire.Bulkhead || l.Limit != 5 || l.InUse != 2 || l.Processes != 1 || l.Granted != l.InUse+l.Available || l.Waiting != 0 {
		t.Errorf("limit %+v, want 2 of 5 in use by one process", l)
	}
}

// One user may have so many sessions, begun or not; the next is told why, and
// a place that comes free is given again.
func TestSessionsOfOneUser(t *testing.T) {
	h := newHost(t, bulkhead(5, 10, time.Second))
	first := h.upgrade()
	first.hello(&wire.Message{Type: wire.Hello, Version: 1})
	for range 255 {
		r := h.upgrade()
		if r.head.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("a session within the bound: %s", r.head.Status)
		}
		r.hello(&wire.Message{Type: wire.Hello, Version: 1})
	}
	r := h.upgrade()
	body, _ := io.ReadAll(r.head.Body)
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || r.head.StatusCode != 503 || !strings.Contains(p.Detail, "256 sessions") {
		t.Errorf("the 257th: %s %s, want 503 and why", r.head.Status, body)
	}
	h.upgrade()
	resp, err := h.web("agent.sock").Get("http://resagent/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ = io.ReadAll(resp.Body)
	for _, line := range []string{
		`resagent_sessions_refused_total{reason="user"} 2`, `resagent_sessions_refused_total{reason="agent"} 0`,
		`resagent_events_total{kind="session-refused"} 1`, // not one for each try
	} {
		if !strings.Contains(string(body), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, body)
		}
	}
	first.unix.Close()
	until(t, "a place free again", func() bool {
		r := h.upgrade()
		defer r.unix.Close()
		return r.head.StatusCode == http.StatusSwitchingProtocols
	})
}
