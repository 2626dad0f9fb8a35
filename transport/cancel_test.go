package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// TestRequestCancel: the request's own Cancel is the caller's end of the call
// like its context's: not repeated, not the upstream's failure, not answered
// in the upstream's place.
func TestRequestCancel(t *testing.T) {
	t.Run("during an attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			errCancel := errors.New("net/http: request canceled")
			p := policies.Policy{
				CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1},
				Fallback:       &policies.Fallback{Static: &policies.Static{Body: "static"}},
			}
			tr, s := through(t, p, answer{do: func(req *http.Request) (*http.Response, error) {
				<-req.Cancel //lint:ignore SA1019 callers may still use it
				return nil, errCancel
			}})
			req, cancel := cancellable(t)
			time.AfterFunc(time.Second, cancel)
			resp, err := tr.RoundTrip(req)
			if resp != nil || !errors.Is(err, errCancel) || s.count() != 1 {
				t.Errorf("got %v, %v after %d attempts; want the base's error of the one", resp, err, s.count())
			}
			_, a := tr.find(tr.session(), tr.tableFor(tr.session()), req, time.Now())
			if st := a.breaker.state(); st != closed {
				t.Errorf("the circuit is %v: the caller's end counted as the upstream's failure", st)
			}
		})
	})
	t.Run("during a wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr, s := through(t, policies.Policy{}, answer{status: 503, header: http.Header{"Retry-After": {"5"}}, body: "no"})
			req, cancel := cancellable(t)
			time.AfterFunc(time.Second, cancel)
			began := time.Now()
			resp, err := tr.RoundTrip(req)
			if resp != nil || !errors.Is(err, errCancelled) {
				t.Errorf("got %v, %v; want the cancellation", resp, err)
			}
			if d := time.Since(began); d != time.Second || s.count() != 1 {
				t.Errorf("%d attempts in %v", s.count(), d)
			}
		})
	})
}

// cancellable is a request with a Cancel channel, and what closes it.
func cancellable(t *testing.T) (*http.Request, func()) {
	req := request(t, "GET", nil)
	cancel := make(chan struct{})
	req.Cancel = cancel //lint:ignore SA1019 callers may still use it
	return req, func() { close(cancel) }
}

// TestDeadlineInABody: the caller's deadline is what a body ends with also where
// a stale answer was waiting, and the attempt has a context of its own.
func TestDeadlineInABody(t *testing.T) {
	for name, p := range map[string]policies.Policy{"plain": {}, "stale.after": stale(time.Second)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, p)
				fillCache(t, tr, s, answer{do: func(req *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(untilDone{req.Context()}), Request: req}, nil
				}})
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				resp, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the body gives %v, want the deadline", err)
				}
			})
		})
	}
}

// untilDone is a body that ends with a context, as over HTTP/2.
type untilDone struct{ context.Context }

func (c untilDone) Read([]byte) (int, error) {
	<-c.Done()
	return 0, c.Err()
}
