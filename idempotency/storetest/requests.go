package storetest

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"

	"github.com/resagent/resagent/idempotency"
)

// requests sends many at once with one key through a Handler, while the one
// that runs waits for the others, and one more afterwards.
func requests(f *fixture) {
	const callers = 100
	refused := make(chan bool, callers)
	var runs atomic.Int32
	h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		runs.Add(1)
		for range callers - 1 {
			<-refused
		}
		w.WriteHeader(http.StatusCreated)
	}), idempotency.Options{Store: f.store, Lease: soon, TTL: long, Observe: func(e idempotency.Event) {
		if e.Kind != idempotency.Started && e.Kind != idempotency.Stored {
			refused <- true
		}
	}})
	// Two stores that a test opens may share keys: the key is new.
	key := idempotency.NewKey()
	ask := func() int {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set(idempotency.Header, key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	var wg sync.WaitGroup
	codes := make(chan int, callers)
	for range callers {
		wg.Go(func() { codes <- ask() })
	}
	wg.Wait()
	close(codes)
	got := make(map[int]int)
	for code := range codes {
		got[code]++
	}
	if runs.Load() != 1 || got[http.StatusCreated] != 1 || got[http.StatusConflict] != callers-1 {
		f.Errorf("%d runs, answers by status %v; want 1 run, one 201, %d of 409", runs.Load(), got, callers-1)
	}
	if code := ask(); code != http.StatusCreated || runs.Load() != 1 {
		f.Errorf("afterwards: %d after %d runs, want the stored 201", code, runs.Load())
	}
}
