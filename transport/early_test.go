package transport

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/policies"
)

// TestOpeningShorterThanTheWait: a circuit that lets a probe through before the
// wait is over does not end the wait, and the retry is that probe.
func TestOpeningShorterThanTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 2, OpenFor: time.Second}},
			answer{status: 503, header: http.Header{"Retry-After": {"3"}}}, answer{err: errOther}, answer{status: 200})
		time.AfterFunc(10*time.Millisecond, func() { tr.RoundTrip(request(t, "POST", nil)) })
		began := time.Now()
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil || resp.StatusCode != 200 || time.Since(began) != 3*time.Second || s.count() != 3 {
			t.Errorf("got %v, %v after %v and %d attempts; want the probe's answer after 3s", resp, err, time.Since(began), s.count())
		}
	})
}

// TestOpeningsForgetWaits: a wait that is over is not kept.
func TestOpeningsForgetWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, policies.Policy{}, answer{status: 503}, answer{err: errReset}, answer{status: 200})
		tr.RoundTrip(request(t, "GET", nil))
		_, a := tr.find(tr.session(), tr.tableFor(tr.session()), request(t, "GET", nil), time.Now())
		if n := len(a.breaker.openings.waits); n != 0 {
			t.Errorf("%d waits are kept", n)
		}
	})
}

// TestFieldsInAnyLetters: what a caller has written straight into the header
// map counts as what it is to the upstream.
func TestFieldsInAnyLetters(t *testing.T) {
	for _, tc := range []struct {
		name, method, field string
		sent                int
	}{
		{"a precondition", "PUT", "if-match", 1},
		{"another field of that length", "PUT", "if-watch", 2},
		{"a key", "POST", "idempotency-key", 2},
		{"the key's other name", "POST", "x-idempotency-key", 2},
		{"neither", "POST", "x-idempotency-kex", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, policies.Policy{}, answer{status: 503}, answer{status: 200})
				req := request(t, tc.method, strings.NewReader("x"))
				req.Header[tc.field] = []string{`"1"`}
				if _, err := tr.RoundTrip(req); err != nil || s.count() != tc.sent {
					t.Errorf("%d attempts, %v; want %d", s.count(), err, tc.sent)
				}
			})
		})
	}
	t.Run("no key beside the caller's", func(t *testing.T) {
		tr, s := through(t, policies.Policy{Idempotency: &policies.Idempotency{}}, answer{status: 200})
		req := request(t, "POST", nil)
		field := "idempotency-key"
		req.Header[field] = []string{`"mine"`}
		if _, err := tr.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if h := s.calls[0].header; len(h[idempotency.Header]) > 0 || h[field][0] != `"mine"` {
			t.Errorf("sent with %v", h)
		}
	})
}

// TestWithUpstreamWithoutPolicies: the name cannot be applied, which is said.
func TestWithUpstreamWithoutPolicies(t *testing.T) {
	var told []Event
	tr := &Transport{Base: &script{answers: []answer{{status: 200}}}, Agent: alone(t), Observe: func(e Event) {
		if e.Kind == NotApplied {
			told = append(told, e)
		}
	}}
	req := request(t, "GET", nil)
	req = req.WithContext(WithUpstream(req.Context(), "payments"))
	for range 2 {
		if _, err := tr.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || told[0].Upstream != "payments" {
		t.Errorf("told %+v, want one event about payments", told)
	}
}
