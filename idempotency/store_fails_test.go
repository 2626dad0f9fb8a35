package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/idempotency"
)

// sleep waits for seconds, or until a request's context ends.
func sleep(r *http.Request, seconds int) {
	var gone <-chan struct{}
	if r != nil {
		gone = r.Context().Done()
	}
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-gone:
	}
}

// failing is a Memory whose steps fail with these errors.
type failing struct {
	idempotency.Memory
	claim, complete error
	renew           atomic.Bool // fails
}

func (f *failing) Claim(ctx context.Context, id idempotency.ID, print idempotency.Fingerprint, lease, ttl time.Duration) (idempotency.Claim, error) {
	if f.claim != nil {
		return idempotency.Claim{}, f.claim
	}
	return f.Memory.Claim(ctx, id, print, lease, ttl)
}

func (f *failing) Renew(ctx context.Context, id idempotency.ID, token uint64, lease time.Duration) error {
	if f.renew.Load() {
		return errors.New("broken")
	}
	return f.Memory.Renew(ctx, id, token, lease)
}

func (f *failing) Complete(ctx context.Context, id idempotency.ID, token uint64, a *idempotency.Answer, ttl time.Duration) error {
	if f.complete != nil {
		return f.complete
	}
	return f.Memory.Complete(ctx, id, token, a, ttl)
}

func TestTheStoreFails(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		store  *failing
		status int
		runs   int
	}{
		{"no claim, no run", &failing{claim: broken}, 503, 0},
		{"what was done is told, stored or not", &failing{complete: broken}, 201, 1},
		{"what was undone is not", &failing{complete: fmt.Errorf("%w: %w", idempotency.ErrUndone, broken)}, 503, 1},
		{"the answer of a lost run is not given", &failing{complete: idempotency.ErrLost}, 409, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs := 0
			h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				runs++
				w.WriteHeader(201)
			}), idempotency.Options{Store: c.store})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request(""))
			if w.Code != c.status || runs != c.runs {
				t.Errorf("status %d after %d runs, want %d after %d", w.Code, runs, c.status, c.runs)
			}
		})
	}
}

// A run whose lease another has taken is told so by its context, and the
// second knows that it is a re-run.
func TestALostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(failing)
		store.renew.Store(true)
		var ran atomic.Int32
		h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			runs := ran.Add(1)
			if again := idempotency.FromContext(r.Context()).Again; again != (runs == 2) {
				t.Errorf("run %d is told that it is a re-run: %v", runs, again)
			}
			if runs == 1 {
				sleep(r, 60)
				if err := context.Cause(r.Context()); !errors.Is(err, idempotency.ErrLost) {
					t.Errorf("the first run's context ended with %v", err)
				}
				w.WriteHeader(500)
				return
			}
			w.WriteHeader(201)
		}), idempotency.Options{Store: store})
		first, second := httptest.NewRecorder(), httptest.NewRecorder()
		done := make(chan bool)
		go func() {
			h.ServeHTTP(first, request(""))
			close(done)
		}()
		sleep(nil, 11)
		h.ServeHTTP(second, request(""))
		store.renew.Store(false)
		<-done
		if first.Code != 409 || second.Code != 201 {
			t.Errorf("the first run was answered with %d, the second with %d; want 409 and 201", first.Code, second.Code)
		}
		third := httptest.NewRecorder()
		if h.ServeHTTP(third, request("")); third.Code != 201 || ran.Load() != 2 {
			t.Errorf("the third request got %d after %d runs, want 201 after 2", third.Code, ran.Load())
		}
	})
}
