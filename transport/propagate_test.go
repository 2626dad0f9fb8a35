package transport

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

func propagating(t *testing.T, base http.RoundTripper, p policies.Propagation) *Transport {
	return &Transport{Base: base, Agent: alone(t), Policies: compile(t, named(policies.Policy{Propagation: &p,
		Timeout: &policies.Timeout{Attempt: 2 * time.Second, Total: 3 * time.Second}, Retry: &policies.Retry{Backoff: policies.Backoff{Base: time.Millisecond}},
		CircuitBreaker: &policies.CircuitBreaker{Disabled: true}}))}
}

// Three layers that each make three attempts: 7 calls at the bottom, not 27.
func TestRetriesBelowARetry(t *testing.T) {
	calls := 0
	var below http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.WriteHeader(503)
	})
	for range 3 {
		to := below
		base := &script{answers: []answer{{do: func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			to.ServeHTTP(w, r)
			return w.Result(), nil
		}}}}
		tr := propagating(t, base, policies.Propagation{AttemptHeader: "X-Attempt"})
		below = Propagated("X-Attempt", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req := get(t).WithContext(r.Context())
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if len(req.Header) > 0 {
				t.Errorf("the caller's header was changed: %v", req.Header)
			}
			w.WriteHeader(resp.StatusCode)
		}))
	}
	below.ServeHTTP(httptest.NewRecorder(), get(t))
	if calls != 7 {
		t.Errorf("%d calls at the bottom, want 7", calls)
	}
}

func TestPropagatedHeaders(t *testing.T) {
	for unit, want := range map[policies.DeadlineUnit]string{policies.UnitMilliseconds: "2000", policies.UnitSeconds: "2.000"} {
		synctest.Test(t, func(t *testing.T) {
			base := &script{answers: []answer{{status: 503}, {status: 200}}}
			tr := propagating(t, base, policies.Propagation{AttemptHeader: "X-Attempt", DeadlineHeader: "X-Left", DeadlineUnit: unit})
			if status, err := sendOne(t, tr, get(t)); status != 200 {
				t.Fatal(status, err)
			}
			for i, n := range []string{"1", "2"} {
				if h := base.calls[i].header; h.Get("X-Attempt") != n || h.Get("X-Left") != want {
					t.Errorf("attempt %s carries %v, want %s left", n, h, want)
				}
			}
			passed := get(t)
			passed.Header = http.Header{"X-Attempt": {"3"}, "X-Left": {"70"}}
			sendOne(t, tr, passed)
			if h := base.calls[2].header; h.Get("X-Attempt") != "3" || h.Get("X-Left") != "70" {
				t.Errorf("a request passed on carries %v", h)
			}
		})
	}
}
