package transport

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

func bulkhead(n int) policies.Policy {
	return policies.Policy{
		Retry:    &policies.Retry{Disabled: true},
		Bulkhead: &policies.Bulkhead{MaxConcurrent: n, MaxWaiting: policies.None, MaxWait: policies.None},
	}
}

// TestPermitReturns: at the headers where no body follows, else at EOF, at a
// Read error, or at Close.
func TestPermitReturns(t *testing.T) {
	broken := func(req *http.Request) (*http.Response, error) {
		body := io.NopCloser(io.MultiReader(strings.NewReader("half"), &errReader{io.ErrUnexpectedEOF}))
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body, ContentLength: 100, Request: req}, nil
	}
	for _, tc := range []struct {
		name, method string
		a            answer
		held         bool                 // after the headers
		end          func(*http.Response) // gives it back
	}{
		{"NoBody", "GET", answer{status: 200}, false, nil},
		{"HEAD", "HEAD", answer{status: 200}, false, nil},
		{"204", "GET", answer{status: 204}, false, nil},
		{"304", "GET", answer{status: 304}, false, nil},
		{"EOF", "GET", answer{status: 200, body: "x"}, true, func(r *http.Response) { io.ReadAll(r.Body) }},
		{"Close", "GET", answer{status: 200, body: "x"}, true, func(r *http.Response) { r.Body.Close() }},
		{"Read error", "GET", answer{do: broken}, true, func(r *http.Response) { io.ReadAll(r.Body) }},
		{"twice", "GET", answer{status: 200, body: "x"}, true, func(r *http.Response) { io.ReadAll(r.Body); r.Body.Close(); r.Body.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr, _ := through(t, bulkhead(1), tc.a, answer{status: 200}, answer{status: 200, body: "x"})
			first, err := tr.RoundTrip(request(t, tc.method, nil))
			if err != nil {
				t.Fatal(err)
			}
			defer first.Body.Close()
			if !tc.held {
				if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
					t.Errorf("the permit was not returned at the headers: %v", err)
				}
				return
			}
			_, err = tr.RoundTrip(request(t, "GET", nil))
			var no *RejectedError
			if !errors.As(err, &no) || !errors.Is(err, ErrBulkheadFull) || no.Upstream != "upstream" {
				t.Errorf("while the body is open: %v", err)
			}
			tc.end(first)
			if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
				t.Errorf("the permit was not returned: %v", err)
			}
			second, err := tr.RoundTrip(request(t, "GET", nil))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, ErrBulkheadFull) {
				t.Errorf("the permit was returned twice: %v", err)
			}
			second.Body.Close()
		})
	}
}

// TestPermitIsNotHeldDuringBackoff: another call gets it meanwhile.
func TestPermitIsNotHeldDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := bulkhead(1)
		p.Retry = nil
		wait := answer{status: 503, header: http.Header{"Retry-After": {"5"}}, body: "wait"}
		tr, _ := through(t, p, wait, answer{status: 200})
		var wg sync.WaitGroup
		wg.Go(func() {
			if resp, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || resp.StatusCode != 200 {
				t.Errorf("the retried call: %v, %v", resp, err)
			}
		})
		synctest.Wait()
		if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
			t.Errorf("during the other's backoff: %v", err)
		}
		wg.Wait()
	})
}

// TestBulkheadBounds: never more at a time, and everybody served.
func TestBulkheadBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		busy := func(req *http.Request) (*http.Response, error) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			now.Add(-1)
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}
		tr, _ := through(t, policies.Policy{
			Bulkhead: &policies.Bulkhead{MaxConcurrent: 3, MaxWaiting: 100, MaxWait: time.Hour},
			Timeout:  &policies.Timeout{Total: policies.None},
		}, answer{do: busy})
		began := time.Now()
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 3 || time.Since(began) != 10*time.Second {
			t.Errorf("at most %d at a time, in %v; want 3 in 10s", most.Load(), time.Since(began))
		}
	})
}

func TestRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{RateLimit: &policies.RateLimit{Rate: 1, Burst: 2, MaxWait: policies.None}}, answer{status: 200})
		var err error
		for range 3 {
			_, err = tr.RoundTrip(request(t, "GET", nil))
		}
		var no *RejectedError
		if !errors.As(err, &no) || !errors.Is(err, ErrRateLimited) || no.RetryAfter <= 0 || s.count() != 2 {
			t.Errorf("the third call in a burst of 2: %v after %d attempts", err, s.count())
		}
	})
}

// TestRefusalsAreNobodysFailure: they neither open the circuit nor cost budget
// nor are they retried.
func TestRefusalsAreNobodysFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{
			RateLimit:      &policies.RateLimit{Rate: 1, Burst: 1, MaxWait: policies.None},
			CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 2},
		}, answer{status: 200})
		for range 50 {
			tr.RoundTrip(request(t, "GET", nil))
		}
		time.Sleep(time.Second)
		if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || s.count() != 2 {
			t.Errorf("after 49 refusals: %v, %d attempts", err, s.count())
		}
	})
}

// TestOpenCircuitSpendsNothing: no token, no permit.
func TestOpenCircuitSpendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, policies.Policy{
			Retry:          &policies.Retry{Disabled: true},
			RateLimit:      &policies.RateLimit{Rate: 0.001, Burst: 3, MaxWait: policies.None},
			CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1, OpenFor: time.Second},
		}, answer{status: 503}, answer{status: 200})
		tr.RoundTrip(request(t, "GET", nil))
		for range 20 {
			if _, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, ErrCircuitOpen) {
				t.Fatalf("the circuit is not open: %v", err)
			}
		}
		time.Sleep(2 * time.Second)
		for i := range 2 {
			if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
				t.Errorf("call %d afterwards: %v", i+1, err)
			}
		}
	})
}

// TestCircuitOpensDuringWait: it is read again after waiting for a permit, and
// before a token is spent.
func TestCircuitOpensDuringWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{
			Retry:          &policies.Retry{Disabled: true},
			Bulkhead:       &policies.Bulkhead{MaxConcurrent: 1, MaxWait: time.Minute},
			RateLimit:      &policies.RateLimit{Rate: 0.001, Burst: 2, MaxWait: policies.None},
			CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1, OpenFor: time.Second},
		}, answer{status: 503, delay: time.Second}, answer{status: 200})
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			wg.Go(func() { _, errs[i] = tr.RoundTrip(request(t, "GET", nil)) })
		}
		wg.Wait()
		if s.count() != 1 || !errors.Is(errors.Join(errs...), ErrCircuitOpen) {
			t.Errorf("%d attempts, %v; want the one that waited to be refused", s.count(), errs)
		}
		time.Sleep(2 * time.Second)
		if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
			t.Errorf("the refused call spent a token: %v", err)
		}
	})
}
