package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/resagent/resagent/fallbackcache"
)

// race sends the call on a goroutine of its own, because a stale answer waits
// to be given if the upstream has not answered after the given time. Then late
// is true, and the attempt goes on without its caller, within its own time
// limits: it may refresh the cache, and the circuit learns what became of it.
//
// The attempt works on a copy of the request, because the caller may use its
// own again as soon as it has read the stale answer.
func (c *call) race(after time.Duration, asked fallbackcache.Stamp) (resp *http.Response, err error, late bool) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.ctx))
	untie := context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })
	if c.ctx.Err() != nil { // AfterFunc's goroutine may come too late
		cancel(context.Cause(c.ctx))
	}
	w := &call{
		t: c.t, req: c.req.Clone(ctx), ctx: ctx, start: c.start, deadline: c.callersDeadline(),
		up: c.up, authority: c.authority, rules: c.rules, tries: c.tries,
	}
	w.first.begun = c.since()
	w.header = w.req.Header
	if c.asks {
		w.header = c.header.Clone()
	}
	if c.info != nil {
		w.info = new(Info) // so that it measures
	}
	w.unlink = func() { untie(); cancel(nil) }

	done := make(chan finish)
	left := make(chan *fallbackcache.Flight, 1) // what it leads, when the caller goes on without us
	go w.alone(done, left, asked)

	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case f := <-done:
		return c.adopt(w, f)
	case <-timer.C:
	}
	if !untie() { // the caller has just ended the call: that, not a stale answer
		return c.adopt(w, <-done)
	}
	if p := c.rules.Timeout; p == nil || p.Attempt == 0 {
		time.AfterFunc(lateTime, func() { cancel(nil) })
	}
	left <- c.flight
	c.flight = nil
	c.attempts.Store(w.attempts.Load())
	return nil, nil, true
}

const (
	// lateTime bounds what goes on without its caller: the attempt where no
	// attempt timeout does, and the reading of its answer.
	lateTime = time.Minute
	// lateMost is how much of such an answer is read for the cache.
	lateMost = 8 << 20
)

// finish is how the goroutine of a race ended.
type finish struct {
	resp  *http.Response
	err   error
	panic any
}

// adopt takes over what the goroutine's call came to.
func (c *call) adopt(w *call, f finish) (*http.Response, error, bool) {
	if f.panic != nil {
		panic(f.panic)
	}
	c.attempts.Store(w.attempts.Load())
	c.waited, c.hedged, c.hedgeWon = w.waited, w.hedged, w.hedgeWon
	if c.info != nil {
		c.stoppedBy(w.info.Stopped)
	}
	if c.ctx.Err() != nil && errors.Is(f.err, context.Canceled) {
		f.err = context.Cause(c.ctx) // a deadline reaches a detached context as a cancellation
	}
	return f.resp, f.err, false
}

// alone is the goroutine of a race. A panic of the base goes to the caller, or
// if that has left, to the hook and the log: it must not end the process.
func (w *call) alone(done chan<- finish, left <-chan *fallbackcache.Flight, asked fallbackcache.Stamp) {
	var f finish
	defer func() {
		if v := recover(); v != nil {
			f = finish{panic: v}
		} else if !w.done { // the base ended the goroutine
			f.err = errNeither
		}
		w.end()
		if f.resp == nil {
			w.unlink()
		}
		select {
		case done <- f: // the caller takes it, or
		case w.flight = <-left: // has left
			w.refresh(f, asked)
		}
	}()
	f.resp, f.err = w.send()
	w.done = true
}

// refresh reads a late answer into the cache.
func (w *call) refresh(f finish, asked fallbackcache.Stamp) {
	defer func() {
		if v := recover(); v != nil { // of reading the body
			w.panicked(v)
		}
		w.land()
	}()
	if f.panic != nil {
		w.panicked(f.panic)
	}
	if f.resp != nil {
		defer time.AfterFunc(lateTime, w.unlink).Stop()
		w.take(f.resp, asked)
	}
}

// take stores the answer of a call that nobody waits for.
func (w *call) take(resp *http.Response, asked fallbackcache.Stamp) {
	kept := resp
	defer func() { closeBody(kept) }()
	if w.failed(resp, nil) {
		return
	}
	if kept = w.store(resp, asked); kept != resp { // else nobody wants its body
		most := max(lateMost, w.t.cache().MaxObject)
		io.Copy(io.Discard, io.LimitReader(kept.Body, most+1)) // and its end
	}
}
