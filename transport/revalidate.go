package transport

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/resagent/resagent/fallbackcache"
)

// errBehind ends what goes on without a caller and takes too long.
var errBehind = errors.New("transport: nobody waits for this call any more, and its time is over")

// revalidate asks for a stored answer anew, in the background: one call for each
// key, and a bounded number in all. What is not begun for that the next caller
// tries again.
//
// The call passes all layers, as any does, but is neither retried nor hedged. It
// has the values of its caller's context, not its end: with headers and body it
// may take the policy's total timeout, or lateTime where there is none.
func (c *call) revalidate(stored *fallbackcache.Answer) {
	f, busy := c.t.cache().Revalidate(c.req, c.start)
	if f == nil {
		if busy {
			e := c.event(Revalidated)
			e.Detail = "not begun: too many are under way"
			c.t.tell(e)
		}
		return
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.ctx))
	w := &call{
		t: c.t, req: c.req.Clone(ctx), ctx: ctx, start: c.start,
		up: c.up, authority: c.authority, rules: c.rules, tries: 1,
		flight: f, behind: true, unlink: func() { cancel(nil) },
	}
	w.first.begun = c.since()
	w.req.Cancel = nil //lint:ignore SA1019 it is the caller's end too
	// The caller's own conditions are about the caller's copy.
	for name := range w.req.Header {
		switch http.CanonicalHeaderKey(name) {
		case "If-None-Match", "If-Modified-Since":
			delete(w.req.Header, name)
		}
	}
	w.header = w.req.Header
	if h := stored.Condition(w.req); h != nil {
		w.header, w.asks = h, true
	}
	go w.revalidating(stored, c.t.cache().Stamp(c.req), func() { cancel(errBehind) })
}

// revalidating is the goroutine of a revalidation. A panic of the base is told
// to the hook and the log.
func (w *call) revalidating(stored *fallbackcache.Answer, asked fallbackcache.Stamp, late func()) {
	e := w.event(Revalidated)
	defer func() {
		v := recover()
		w.end()
		w.land()
		w.unlink()
		if v != nil {
			w.panicked(v)
		} else if !w.done { // the base ended the goroutine
			e.Err = errNeither
		}
		e.Attempt = int(w.attempts.Load())
		w.up.limits.Count(e.Attempt, false)
		if w.t.Observe == nil {
			return
		}
		e.Took, e.Detail = w.since(), "not refreshed"
		if a := w.t.cache().Look(w.req, 0, time.Now()); a != nil && a.StoredAt.After(stored.StoredAt) {
			e.Detail = "refreshed"
		}
		w.t.tell(e)
	}()
	limit := lateTime
	p := w.rules.Timeout
	if p != nil && p.Total > 0 {
		limit = p.Total
	}
	if p == nil || p.Total == 0 && (p.Attempt == 0 || p.Attempt > limit) { // else they end the attempt, and the circuit learns of it
		defer time.AfterFunc(limit, late).Stop()
	}
	resp, err := w.send()
	if resp != nil {
		e.Status = resp.StatusCode
		defer time.AfterFunc(max(0, limit-w.since()), late).Stop()
		w.take(resp, asked)
	}
	e.Err = err
	w.done = true
}
