package idempotency

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// run lets the handler carry out a request whose key has been claimed, and
// ends the claim on every path.
func (h *handler) run(w http.ResponseWriter, r *http.Request, body []byte, run *Run) {
	kind := Started
	if run.Again {
		kind = Repeated
	}
	h.tell(Event{Kind: kind, Context: r.Context(), ID: run.ID})

	// The client's going away must not leave a charge half done.
	base := context.WithoutCancel(r.Context())
	ctx, cancel := context.WithCancelCause(WithRun(base, run))
	defer cancel(nil)
	k := keeper{h: h, base: base, run: run, lost: cancel}
	k.start()
	defer k.stop() // also if Observe panics

	inner := r.WithContext(ctx)
	inner.Body = io.NopCloser(bytes.NewReader(body))
	rec := newRecorder(w, h.MaxResponse)
	began := time.Now()
	ended := false
	defer func() {
		if !ended { // a panic, which goes on, or runtime.Goexit
			k.stop()
			h.broken(base, run, rec, time.Since(began))
		}
	}()
	h.next.ServeHTTP(rec, inner)
	ended = true
	k.stop()
	h.end(base, run, rec, time.Since(began))
}

// end stores the answer or frees the key, and then answers.
func (h *handler) end(base context.Context, run *Run, rec *recorder, took time.Duration) {
	rec.WriteHeader(http.StatusOK) // unless there is a status
	answer := rec.answer()
	kind, err := Stored, error(nil)
	ctx, cancel := context.WithTimeout(base, h.Lease)
	defer cancel()
	switch released := h.Release(answer.Status); {
	case run.forget.Load() || released && !ofAnother(answer.Status):
		kind, err = Unstored, h.Store.Release(ctx, run.ID, run.Token)
	case released:
		kind, err = Unstored, h.Store.Renew(ctx, run.ID, run.Token, 0)
	default:
		err = h.Store.Complete(ctx, run.ID, run.Token, answer, h.TTL)
	}
	lost, undone := errors.Is(err, ErrLost), errors.Is(err, ErrUndone)
	switch {
	case lost:
		kind = Lost
	case err != nil:
		kind = Failed
	}
	h.tell(Event{Kind: kind, Context: base, ID: run.ID, Status: answer.Status, Took: took, Err: err})
	switch {
	case !lost && !undone:
		// Where only the storing failed the effect is there: the client had
		// better know than try again.
		rec.finish()
	case rec.streaming:
		panic(http.ErrAbortHandler) // the client must not take what it has for the answer
	case lost:
		rec.instead(problem{Status: http.StatusConflict, Title: "Another run of this request has taken over",
			Detail: "Send it again later to get its result."})
	default:
		rec.instead(problem{Status: http.StatusServiceUnavailable, Type: "about:blank", Title: "Service Unavailable",
			Detail: "Nothing was done. Send the request again, with the same " + h.Header + "."})
	}
}

// broken ends the claim of a handler that panicked: what it has done by then
// nobody knows.
func (h *handler) broken(base context.Context, run *Run, rec *recorder, took time.Duration) {
	ctx, cancel := context.WithTimeout(base, h.Lease)
	defer cancel()
	e := Event{Kind: Unstored, Context: base, ID: run.ID, Took: took}
	switch {
	case run.forget.Load():
		e.Err = h.Store.Release(ctx, run.ID, run.Token)
	case h.KeepPanics:
		e.Kind, e.Status = Stored, http.StatusInternalServerError
		e.Err = h.Store.Complete(ctx, run.ID, run.Token, &Answer{Status: e.Status}, h.TTL)
	default:
		e.Err = h.Store.Renew(ctx, run.ID, run.Token, 0)
	}
	switch {
	case errors.Is(e.Err, ErrLost):
		e.Kind = Lost
	case e.Err != nil:
		e.Kind = Failed
	}
	h.tell(e)
}

// keeper renews the lease while the handler runs. It costs a timer, and a
// goroutine only when that fires.
type keeper struct {
	h    *handler
	base context.Context
	run  *Run
	lost context.CancelCauseFunc

	mu      sync.Mutex // held while renewing
	timer   *time.Timer
	stopped bool
}

func (k *keeper) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer = time.AfterFunc(k.h.Lease/3, k.renew)
}

func (k *keeper) renew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return
	}
	ctx, cancel := context.WithTimeout(k.base, k.h.Lease/3)
	defer cancel()
	err := k.h.Store.Renew(ctx, k.run.ID, k.run.Token, k.h.Lease)
	if errors.Is(err, ErrLost) {
		k.lost(ErrLost)
		return
	}
	if err != nil { // the next one may come in time
		k.h.tell(Event{Kind: Failed, Context: k.base, ID: k.run.ID, Err: err})
	}
	k.timer.Reset(k.h.Lease / 3)
}

// stop ends the renewing, and waits for one that goes on.
func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	k.timer.Stop()
}
