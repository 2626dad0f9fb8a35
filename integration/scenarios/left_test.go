package scenarios

import (
	"context"
	"errors"
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
	"github.com/resagent/resagent/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// permits of the bulkhead in TestNothingIsLeft.
const permits = 48

// TestNothingIsLeft: 10,000 requests to an upstream that mixes good answers,
// failures with bodies, resets, stalls and halves, from callers that cancel,
// read in part or not at all. Afterwards goroutines, connections on both
// sides, permits, and bodies of both directions are counted.
func TestNothingIsLeft(t *testing.T) {
	const calls, callers = 10000, 64
	before := goleak.IgnoreCurrent()
	srv, accepted := startMixed()
	var dialled, requestBodies atomic.Int64
	base := &http.Transport{MaxIdleConnsPerHost: 64, DialContext: counted(&dialled)}
	watched := &watch{base: base}
	session := alone()
	rt := transportFor(t, watched, map[string]policies.Policy{"127.0.0.1": {
		Timeout:        &policies.Timeout{Attempt: 100 * time.Millisecond, Idle: 100 * time.Millisecond, Total: 5 * time.Second},
		Retry:          &policies.Retry{Backoff: policies.Backoff{Base: 1, Max: time.Millisecond, ThrottledBase: 1}},
		Bulkhead:       &policies.Bulkhead{MaxConcurrent: permits, MaxWaiting: 1000, MaxWait: 2 * time.Second},
		RateLimit:      &policies.RateLimit{Rate: 1e6, Burst: 1e6},
		RetryBudget:    &policies.RetryBudget{Capacity: 1e6},
		Idempotency:    &policies.Idempotency{},
		Hedge:          &policies.Hedge{Delay: 10 * time.Millisecond, MaxExtraLoad: 0.5},
		CircuitBreaker: &policies.CircuitBreaker{FailureRate: 1, MinRequests: 1e6, ConsecutiveFailures: 1e6},
		Fallback:       &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, After: 5 * time.Millisecond}},
	}})
	rt.Agent = session

	var next atomic.Int64
	var seen tally
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for n := next.Add(1); n <= calls; n = next.Add(1) {
				seen.add(mixedCall(t, rt, srv.URL, int(n), &requestBodies))
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls came to %s", calls, &seen)
	for _, kind := range []string{"200", "503", "reset", "timeout", "cancelled", "cut off"} {
		if seen.of(kind) == 0 {
			t.Errorf("no call came to %q: the mix does not try what it says", kind)
		}
	}

	// What stale answers left behind ends by its own time limits.
	gone(t, "attempts under way", watched.busy.Load)
	gone(t, "response bodies of the base", watched.open.Load)
	gone(t, "request bodies", requestBodies.Load)
	allPermits(t, rt, srv.URL)
	rt.CloseIdleConnections()
	gone(t, "connections of the client", dialled.Load)
	gone(t, "connections of the server", accepted.Load)
	srv.Close()
	session.Close()
	goleak.VerifyNone(t, before)
}

// allPermits takes each of them at once, and finds that there is no more.
func allPermits(t *testing.T, rt *transport.Transport, url string) {
	t.Helper()
	var held []*http.Response
	defer func() {
		for _, resp := range held {
			resp.Body.Close()
		}
	}()
	for n := range permits + 1 {
		req, err := http.NewRequest("POST", url+"/held?kind=200", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		switch {
		case n == permits && !errors.Is(err, transport.ErrBulkheadFull):
			t.Errorf("beyond %d calls under way the next one gives %v, want a full bulkhead", permits, err)
		case n < permits && err != nil:
			t.Fatalf("permit %d of %d is missing: %v", n+1, permits, err)
		}
		if err == nil {
			held = append(held, resp)
		}
	}
}

// mixedCall makes one call, treats its answer in one of several ways, and says
// what it came to.
func mixedCall(t *testing.T, rt http.RoundTripper, url string, n int, bodies *atomic.Int64) string {
	method, body := "GET", io.Reader(nil)
	switch n % 5 {
	case 1:
		method, body = "PUT", newRequestBody(bodies)
	case 2:
		method, body = "POST", newRequestBody(bodies)
	case 3:
		method = "HEAD"
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if n%6 == 0 {
		timer := time.AfterFunc(rand.N(15*time.Millisecond), cancel)
		defer timer.Stop()
	}
	kind := mix[rand.IntN(len(mix))]
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("%s/%d?kind=%s", url, n%7, kind), body)
	if err != nil {
		t.Error(err)
		return "nothing"
	}
	resp, err := rt.RoundTrip(req)
	if (resp == nil) == (err == nil) {
		t.Errorf("%s: got %v and %v, want one of them", kind, resp, err)
	}
	if err != nil {
		return nameOf(err)
	}
	defer resp.Body.Close()
	switch n % 4 {
	case 0: // dropped unread
	case 1: // read in part
		_, err = io.CopyN(io.Discard, resp.Body, 2)
	case 2: // cancelled while reading
		io.CopyN(io.Discard, resp.Body, 1)
		cancel()
		_, err = io.Copy(io.Discard, resp.Body)
	default:
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil && err != io.EOF {
		return nameOf(err)
	}
	return fmt.Sprint(resp.StatusCode)
}

func nameOf(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut off"
	case strings.Contains(err.Error(), "reset"), errors.Is(err, io.EOF):
		return "reset"
	}
	return "another error"
}

// gone waits until nothing is left of something.
func gone(t *testing.T, what string, left func() int64) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
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

// tally counts by name.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[name]++
}

func (c *tally) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.TrimPrefix(fmt.Sprint(c.n), "map")
}

// counted dials, and counts what is open.
func counted(open *atomic.Int64) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		open.Add(1)
		return &countedConn{Conn: conn, open: open}, nil
	}
}

type countedConn struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// startMixed starts the upstream; accepted are its open connections.
func startMixed() (srv *httptest.Server, accepted *atomic.Int64) {
	accepted = new(atomic.Int64)
	srv = httptest.NewUnstartedServer(http.HandlerFunc(misbehave))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			accepted.Add(1)
		case http.StateClosed, http.StateHijacked:
			accepted.Add(-1)
		}
	}
	srv.Start()
	return srv, accepted
}
