package transport

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// withRetry makes the first attempt by itself. Only if another one is to
// follow does go-retryablehttp's loop run: over a small request that stands in
// for the real one, because its http.Client would change that and read the
// answers. The loop repeats and waits; what to repeat, when, and what is given
// in the end is decided here.
func (c *call) withRetry() (*http.Response, error) {
	c.planAttempts()
	r := c.firstAttempt()
	if c.rules.RetryBudget != nil && r.good() && r.attempt == &c.first {
		c.up.limits.Deposit()
	}
	next := c.consider(&r)
	if !next.again {
		return r.resp, r.err
	}
	l := &loop{c: c, r: r, next: next}
	l.run()
	return l.r.resp, l.r.err
}

// planAttempts says how many attempts there may be, and how much of the body
// is kept for them.
func (c *call) planAttempts() {
	if c.tries == 0 {
		c.tries = 1
		if p := c.rules.Retry; p != nil {
			c.tries = max(1, p.MaxAttempts)
		}
	}
	if c.above() > 1 {
		c.tries = 1 // who made that attempt makes another
	}
	if c.upload == nil {
		return
	}
	switch {
	case c.tries == 1:
		c.upload.plan(-1)
	case c.upload.get == nil && repeatable(c.req.Method, c.keyed()) && !c.preconditioned():
		c.upload.plan(keepMost)
	default:
		c.upload.plan(0) // enough for an attempt that was never sent
	}
}

func (c *call) keyed() bool { return keyed(c.header, c.rules.Idempotency) }

// consider decides about another attempt, and prepares for it: tokens are
// reserved and the response is drained.
func (c *call) consider(r *result) plan {
	p := c.rules.Retry
	if p == nil || r.resp != nil && r.status != http.StatusConflict && !slices.Contains(p.Statuses, r.status) {
		return plan{}
	}
	if r.final || c.gaveUp() {
		return plan{}
	}
	f := c.facts(r)
	next := decide(p, f)
	if held := c.held(); next.again && held > 0 && !f.hasAfter {
		// On top of the pause, so that not all come when it is over.
		if next.wait += held; next.wait >= f.left {
			next = plan{why: "a Retry-After that another call got ends after the deadline"}
		}
	}
	c.maybe = c.maybe || !r.neverSent
	if next.again && c.hedged {
		next = plan{why: "it was hedged"}
	}
	if b := c.breaker(); next.again && b != nil && b.left() > next.wait {
		next = plan{why: "the circuit is open"} // and would be when the wait is over
	}
	if next.again {
		next = c.reserve(r, next)
	}
	if next.again && r.resp != nil && c.upload != nil && !c.upload.hold(c.ctx) {
		c.refund()
		next = plan{why: bodyGone}
	}
	if !next.again {
		if next.why != "" {
			c.stoppedBy(next.why)
			e := c.event(Stopped)
			e.Status, e.Err, e.Detail = r.status, r.err, next.why
			c.t.tell(e)
		}
		return next
	}
	if r.resp != nil {
		c.drain(r)
		r.attempt.release() // it may be sending still
	}
	e := c.event(Retrying)
	e.Status, e.Err, e.Wait = r.status, r.err, next.wait
	c.t.tell(e)
	return next
}

// facts gathers what a decision rests on.
func (c *call) facts(r *result) facts {
	f := facts{
		attempt: int(c.attempts.Load()), tries: c.tries, method: c.req.Method, status: r.status,
		neverSent: r.neverSent, maybe: c.maybe || c.replays.Load() > 0, keyed: c.keyed(), minted: c.rules.Idempotency != nil,
		preconditioned: c.preconditioned(), below: c.above() > 1,
		replayable: c.upload == nil || c.upload.again(),
		left:       math.MaxInt64,
		random:     c.random(),
	}
	if left, ok := c.left(); ok {
		f.left = left
	}
	if r.resp != nil {
		f.after, f.hasAfter = retryAfter(r.resp.Header.Get("Retry-After"), time.Now())
	}
	return f
}

func (c *call) random() float64 {
	if c.t.random != nil {
		return c.t.random()
	}
	return rand.Float64()
}

// preconditioned says whether the caller's own success would make a repeated
// request fail.
func (c *call) preconditioned() bool {
	return has(c.header, "If-Match") || has(c.header, "If-None-Match") || has(c.header, "If-Unmodified-Since")
}

// reserve takes the tokens for one retry.
func (c *call) reserve(r *result, next plan) plan {
	if c.rules.RetryBudget == nil {
		return next
	}
	res, ok := c.up.limits.Reserve(c.ctx, next.cost)
	if !ok {
		if r.err != nil {
			r.err = budgetError{r.err}
		}
		return plan{why: ErrRetryBudget.Error()}
	}
	c.reserved = &res
	return next
}

func (c *call) refund() {
	if r := c.reserved; r != nil {
		c.reserved = nil
		r.Refund()
	}
}

func (c *call) consume() {
	if r := c.reserved; r != nil {
		c.reserved = nil
		r.Consume()
	}
}

// loop is go-retryablehttp at work for one call.
type loop struct {
	c     *call
	ctx   context.Context // the call's, or ended by errOpened
	end   context.CancelCauseFunc
	pause *pause        // the wait under way that an opening may end; nil: none
	r     result        // of the newest attempt
	next  plan          // what was decided about it
	tries int           // of the stand-in
	slept time.Duration // when the newest wait began
}

// errCancelled is what a wait ends with that the request's Cancel ended.
var errCancelled = errors.New("transport: request canceled during the wait for another attempt")

// standInURL is never called.
var standInURL = &url.URL{Scheme: "http", Host: "upstream.invalid", Path: "/"}

func (l *loop) run() {
	l.ctx, l.end = context.WithCancelCause(l.c.ctx)
	defer l.end(nil)
	defer l.stopWatch()
	if cancel := l.c.cancelled(); cancel != nil {
		go func() {
			select {
			case <-cancel:
				l.end(errCancelled)
			case <-l.ctx.Done():
			}
		}()
	}
	rc := retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     standIn{l},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     math.MaxInt, // CheckRetry counts
		CheckRetry:   l.check,
		Backoff:      l.backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler, // the stand-in's result is nobody's
	}
	req := (&http.Request{Method: http.MethodGet, URL: standInURL, Header: http.Header{}}).WithContext(l.ctx)
	if _, err := rc.Do(&retryablehttp.Request{Request: req}); err != nil {
		l.interrupted()
	}
}

// standIn plays the upstream for go-retryablehttp. It has no
// CloseIdleConnections: the loop would close everybody's when it gives up.
type standIn struct{ l *loop }

// RoundTrip answers with the first attempt's result, which is known, and then
// makes the others. The real result stays aside.
func (s standIn) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.l.tries++; s.l.tries > 1 {
		s.l.attempt()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// attempt makes one more, and settles its tokens.
func (l *loop) attempt() {
	l.stopWatch()
	if !l.wait() {
		l.interrupted()
		return
	}
	c, before := l.c, l.r
	c.waited += c.since() - l.slept
	r := c.attempt()
	if r.refused || r.good() {
		c.refund()
	} else {
		c.consume()
	}
	if r.refused {
		l.refused(before, r)
		return
	}
	l.r = r
}

// refused ends the loop after an attempt that was not sent: with the response
// of the attempt before, if it was kept whole. A caller that cancelled gets its
// own error.
func (l *loop) refused(before, r result) {
	var no *RejectedError
	if (errors.Is(r.err, errBodyGone) || errors.Is(r.err, errBodyBusy)) && l.c.ctx.Err() == nil && !errors.Is(r.err, ErrTotalTimeout) {
		l.c.stoppedBy(bodyGone)
	}
	switch {
	case errors.Is(l.c.ctx.Err(), context.Canceled), errors.Is(r.err, errCancelled):
	case before.kept:
		if errors.As(r.err, &no) {
			l.c.stoppedBy(no.Reason.Error())
		}
		r.resp, r.err, r.status = before.resp, nil, before.status
	case errors.As(r.err, &no):
		l.c.stoppedBy(no.Reason.Error())
		no.LastStatus, no.LastErr = before.status, before.err
	case before.err != nil && l.c.ctx.Err() == nil && !errors.Is(r.err, ErrTotalTimeout):
		r.err = before.err // the body could not be had again
	}
	r.final = true
	l.r = r
}

// check is the loop's CheckRetry. The first result was considered before the
// loop began.
func (l *loop) check(context.Context, *http.Response, error) (bool, error) {
	if l.tries > 1 {
		l.next = l.c.consider(&l.r)
	}
	return l.next.again, nil
}

// backoff is the loop's Backoff: the wait that was chosen.
func (l *loop) backoff(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
	l.slept = l.c.since()
	if b := l.c.breaker(); b != nil {
		l.pause = &pause{until: l.c.start.Add(l.slept + l.next.wait), end: l.end}
		b.openings.watch(l.pause)
		if b.left() > l.next.wait { // it opened since the decision
			l.end(errOpened)
		}
	}
	return l.next.wait
}

// stopWatch ends what backoff began.
func (l *loop) stopWatch() {
	if l.pause != nil {
		l.c.breaker().openings.forget(l.pause)
		l.pause = nil
	}
}

// interrupted is the end of a wait between attempts by the caller's context, or
// because the circuit opened.
func (l *loop) interrupted() {
	c := l.c
	c.waited += c.since() - l.slept
	c.refund()
	err := context.Cause(l.ctx)
	if errors.Is(err, errOpened) {
		no := &RejectedError{Upstream: c.up.name, Reason: ErrCircuitOpen, RetryAfter: c.breaker().left()}
		c.refusedEvent(no)
		err = no
	}
	l.refused(l.r, result{err: err, refused: true})
}
