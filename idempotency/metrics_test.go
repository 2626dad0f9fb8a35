package idempotency_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/idempotency"
)

// Each decision is told once, with what belongs to it, and counted.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type event struct {
			kind   idempotency.Kind
			status int
			took   time.Duration
		}
		var got []event
		metrics := new(idempotency.Metrics)
		store := new(failing)
		h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			body, _ := io.ReadAll(r.Body)
			if string(body) == "busy" {
				w.WriteHeader(503)
				return
			}
			w.WriteHeader(201)
		}), idempotency.Options{Store: store, Observe: func(e idempotency.Event) {
			metrics.Observe(e)
			got = append(got, event{e.Kind, e.Status, e.Took})
			if e.Context == nil {
				t.Errorf("%v without a context", e.Kind)
			}
			if known := e.ID != (idempotency.ID{}); known == (e.Kind == idempotency.Rejected) {
				t.Errorf("%v with the ID %x", e.Kind, e.ID)
			}
		}})
		for _, c := range []struct {
			does  string
			body  string
			claim error
			want  []event
		}{
			{"frees the key", "busy", nil, []event{{idempotency.Started, 0, 0}, {idempotency.Unstored, 503, time.Second}}},
			{"stores", "a", nil, []event{{idempotency.Started, 0, 0}, {idempotency.Stored, 201, time.Second}}},
			{"replays", "a", nil, []event{{idempotency.Replay, 201, 0}}},
			{"refuses another", "b", nil, []event{{idempotency.Reused, 422, 0}}},
			{"cannot ask the store", "a", errors.New("broken"), []event{{idempotency.Failed, 503, 0}}},
			{"refuses no key", "", nil, []event{{idempotency.Rejected, 400, 0}}},
		} {
			got, store.claim = nil, c.claim
			r := request(c.body)
			if c.body == "" {
				r.Header.Set(idempotency.Header, "")
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if len(got) != len(c.want) {
				t.Errorf("a request that %s: %v, want %v", c.does, got, c.want)
				continue
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("a request that %s: %v, want %v", c.does, got, c.want)
				}
			}
		}
		w := httptest.NewRecorder()
		metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for _, line := range []string{
			`idempotency_events_total{kind="started"} 2`, `idempotency_events_total{kind="replayed"} 1`,
			`idempotency_events_total{kind="conflict"} 0`, `idempotency_events_total{kind="store failed"} 1`,
			"idempotency_handler_seconds_sum 2", "idempotency_handler_seconds_count 2",
		} {
			if !strings.Contains(w.Body.String(), line+"\n") {
				t.Errorf("no line %q in\n%s", line, w.Body)
			}
		}
	})
}

// A claim stops for two keys at most, however many are over.
func TestPruningStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys = 10_000
		m := new(idempotency.Memory)
		claim := func(n uint64) {
			if _, err := m.Claim(context.Background(), id(n), idempotency.Fingerprint{}, time.Minute, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		for n := range uint64(keys) {
			claim(n)
		}
		time.Sleep(time.Hour)
		for n := range uint64(keys / 2) {
			claim(keys + n)
			if got, want := m.Len(), keys-int(n)-1; got != want {
				t.Fatalf("after %d claims %d keys are held, want %d: one more, two less each time", n+1, got, want)
			}
		}
	})
}
