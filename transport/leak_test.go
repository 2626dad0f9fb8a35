package transport

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/resagent/resagent/policies"
)

// TestNothingLeaks: 2,000 calls to an upstream that does everything badly leave
// no goroutine, no open body, no connection and no permit behind.
func TestNothingLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(misbehave))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			conns.Add(-1)
		}
	}
	srv.Start()
	base := &counting{base: &http.Transport{MaxIdleConnsPerHost: 32}}
	session := alone(t)
	p := policies.Policy{
		Match:          []policies.Match{{Host: "127.0.0.1"}},
		Timeout:        &policies.Timeout{Attempt: 50 * time.Millisecond, Idle: 50 * time.Millisecond, Total: 2 * time.Second},
		Retry:          &policies.Retry{Backoff: policies.Backoff{Base: time.Millisecond, Max: 2 * time.Millisecond, ThrottledBase: time.Millisecond}},
		Bulkhead:       &policies.Bulkhead{MaxConcurrent: 16, MaxWaiting: 64, MaxWait: time.Second},
		Hedge:          &policies.Hedge{Delay: 3 * time.Millisecond, MaxExtraLoad: 1},
		RateLimit:      &policies.RateLimit{Rate: 1e6, Burst: 1e6},
		CircuitBreaker: &policies.CircuitBreaker{FailureRate: 1, MinRequests: 10000, ConsecutiveFailures: 10000},
		Fallback:       &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, After: 5 * time.Millisecond}},
	}
	tr := &Transport{Base: base, Agent: session, Policies: compile(t, p)}

	const calls, callers = 2000, 32
	var next atomic.Int64
	var bodies atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for n := next.Add(1); n <= calls; n = next.Add(1) {
				badCall(t, tr, srv.URL, int(n), &bodies)
			}
		})
	}
	wg.Wait()

	// Attempts that stale answers left behind end by their own time limits.
	waitFor(t, "attempts under way", func() int64 { return base.busy.Load() })
	waitFor(t, "open bodies of the base", func() int64 { return base.open.Load() })
	if n := bodies.Load(); n != 0 {
		t.Errorf("%d request bodies were not closed once", n)
	}
	// Through another transport of the session, which has the same permits, but
	// time enough for a busy machine.
	p.Timeout = &policies.Timeout{Attempt: time.Minute, Total: policies.None}
	patient := &Transport{Base: base, Agent: session, Policies: compile(t, p)}
	var held []*http.Response
	for range 16 { // all permits are there
		resp, err := patient.RoundTrip(mustRequest(t, "POST", srv.URL+"/?kind=200", nil))
		if err != nil {
			t.Fatalf("a permit is missing: %v", err)
		}
		held = append(held, resp)
	}
	for _, resp := range held {
		resp.Body.Close()
	}
	tr.CloseIdleConnections()
	srv.CloseClientConnections()
	srv.Close()
	waitFor(t, "connections", func() int64 { return conns.Load() })
	session.Close()
	goleak.VerifyNone(t, before)
}

// waitFor waits until nothing is left of something.
func waitFor(t *testing.T, what string, left func() int64) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for left() != 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Errorf("%d %s are left", left(), what)
			return
		}
	}
}

func mustRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Error(err)
	}
	return req
}

var kindsOfBad = []string{"200", "cacheable", "503", "503long", "reset", "stall", "half", "429", "204", "silent"}

// badCall makes one call and gives its answer up in one of several ways.
func badCall(t *testing.T, tr *Transport, base string, n int, bodies *atomic.Int64) {
	kind := kindsOfBad[n%len(kindsOfBad)]
	method, body := "GET", io.Reader(nil)
	if n%3 == 0 {
		method = "PUT"
		bodies.Add(1)
		body = &tracked{Reader: strings.NewReader(strings.Repeat("b", 1000)), closed: func() { bodies.Add(-1) }}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if n%7 == 0 {
		timer := time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, cancel)
		defer timer.Stop()
	}
	resp, err := tr.RoundTrip(mustRequest(t, method, fmt.Sprintf("%s/%d?kind=%s", base, n%5, kind), body).WithContext(ctx))
	if (resp == nil) == (err == nil) {
		t.Errorf("%s: got %v and %v, want one of them", kind, resp, err)
	}
	if err != nil {
		return
	}
	switch n % 4 {
	case 0: // dropped unread
	case 1: // read in part
		io.CopyN(io.Discard, resp.Body, 2)
	default:
		io.Copy(io.Discard, resp.Body)
	}
	resp.Body.Close()
}

// misbehave is the upstream.
func misbehave(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	switch r.URL.Query().Get("kind") {
	case "cacheable":
		w.Header().Set("Cache-Control", "max-age=0")
		if rand.IntN(2) == 0 {
			w.WriteHeader(503)
		}
		io.WriteString(w, "good")
	case "503":
		w.WriteHeader(503)
		io.WriteString(w, "sorry")
	case "503long":
		w.WriteHeader(503)
		io.WriteString(w, strings.Repeat("x", 100<<10))
	case "429":
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(429)
	case "204":
		w.WriteHeader(204)
	case "reset":
		panic(http.ErrAbortHandler)
	case "stall": // no headers
		<-r.Context().Done()
	case "silent": // headers and then nothing
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case "half":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	default:
		io.WriteString(w, "fine")
	}
}

// counting is a base that counts what is open on it.
type counting struct {
	base       *http.Transport
	busy, open atomic.Int64
}

func (c *counting) CloseIdleConnections() { c.base.CloseIdleConnections() }

func (c *counting) RoundTrip(req *http.Request) (*http.Response, error) {
	c.busy.Add(1)
	defer c.busy.Add(-1)
	resp, err := c.base.RoundTrip(req)
	if err == nil && resp.Body != http.NoBody {
		c.open.Add(1)
		body := resp.Body
		resp.Body = &both{tracked{Reader: body, closed: func() { c.open.Add(-1); body.Close() }}}
	}
	return resp, err
}

type both struct{ tracked }
