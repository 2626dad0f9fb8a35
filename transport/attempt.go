package transport

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resagent/resagent/agent/client"
)

// attempt is one try: a context that says why it was cancelled, a timer, a
// permit, and the response's body once there is one.
//
// The timer is not moved when the deadline moves. It fires at the earliest
// time that could be meant, asks what is due, and sets itself again if that is
// later. So a body that streams costs a note of the time per Read, and a call
// that ends in time sets one timer once.
type attempt struct {
	c      *call
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	ticket ticket
	permit client.Permit

	begun time.Duration // since c.start
	moved atomic.Int64  // since c.start, when the request body last moved; 0: not yet
	ended atomic.Bool

	mu     sync.Mutex // guards what follows
	phase  phase
	since  time.Duration // when the phase began, since c.start
	fires  time.Duration // when the timer will, since c.start; 0: it is not set
	struck error         // why the timer cancelled the attempt

	loose *http.Response // what the base gave, until it is certain who closes it
	body  body
}

// phase of an attempt: what its timer watches over.
type phase uint8

const (
	waiting  phase = iota // for a permit and a token
	sent                  // to the base, no headers yet
	headers               // the caller has the response and is not reading
	reading               // a Read waits for the body
	draining              // we read the rest of a response that nobody wants
)

// drainTime is how long the rest of a discarded response may take.
const drainTime = 100 * time.Millisecond

func (c *call) newAttempt() *attempt {
	a := &c.first // begun at 0, or near enough
	if a.c != nil {
		a = &attempt{begun: c.since()}
	}
	a.c = c
	a.ctx, a.cancel = context.WithCancelCause(c.ctx)
	c.newest = a
	p := c.rules.Timeout
	if p == nil {
		return a
	}
	first := p.Attempt
	if c.total > 0 {
		if left := max(1, c.total-a.begun); first == 0 || left < first {
			first = left
		}
	}
	if first > 0 {
		a.mu.Lock() // it may fire before it is assigned
		a.fires = a.begun + first
		a.timer = time.AfterFunc(first, a.fire)
		a.mu.Unlock()
	}
	return a
}

// startClock begins the attempt timeout: what was waited in our own queue is
// not the upstream's.
func (a *attempt) startClock() {
	now := a.c.since()
	a.mu.Lock()
	a.phase, a.since = sent, now
	a.arm(now)
	a.mu.Unlock()
}

// arm sees to it that the timer fires when something may become due, or
// sooner. Call it with a.mu held.
func (a *attempt) arm(now time.Duration) {
	due, _ := a.due()
	if due == 0 || a.fires != 0 && a.fires <= due {
		return
	}
	a.fires = due
	if a.timer == nil {
		a.timer = time.AfterFunc(max(0, due-now), a.fire)
		return
	}
	a.timer.Reset(max(0, due-now))
}

// due says when, since the call began, the timer has to strike as things are
// now, and with what. 0: not at all. Call it with a.mu held.
func (a *attempt) due() (time.Duration, error) {
	p, total := a.c.rules.Timeout, a.c.total
	if p == nil && a.phase != draining {
		return 0, nil
	}
	switch a.phase {
	case waiting:
		return total, ErrTotalTimeout
	case sent:
		return attemptDue(p.Attempt, total, a.since, time.Duration(a.moved.Load()))
	case reading:
		if p.Idle > 0 && a.body.timed {
			return a.since + p.Idle, ErrIdleTimeout
		}
	case draining:
		return a.since + drainTime, ErrIdleTimeout
	}
	return 0, nil
}

// attemptDue says when an attempt that was sent at begun is cut off. As long
// as its request body moves, neither timeout cuts it; then it has the attempt
// timeout, or where there is none the total one, from the last movement on.
func attemptDue(limit, total, begun, moved time.Duration) (time.Duration, error) {
	switch {
	case moved > 0 && limit > 0:
		return max(begun, moved) + limit, ErrAttemptTimeout
	case moved > 0 && total > 0:
		return moved + total, ErrTotalTimeout
	case limit > 0 && (total == 0 || begun+limit <= total):
		return begun + limit, ErrAttemptTimeout
	case total > 0:
		return total, ErrTotalTimeout
	}
	return 0, nil
}

// fire is the timer's function.
func (a *attempt) fire() {
	a.mu.Lock()
	due, kind := a.due()
	if due == 0 || a.ended.Load() || a.struck != nil {
		a.fires = 0
		a.mu.Unlock()
		return
	}
	if left := due - a.c.since(); left > 0 {
		a.fires = due
		a.timer.Reset(left)
		a.mu.Unlock()
		return
	}
	p := a.c.rules.Timeout
	switch kind {
	case ErrTotalTimeout:
		a.struck = a.c.totalTimeout()
	case ErrAttemptTimeout:
		a.struck = newTimeout(kind, a.c.up.name, p.Attempt)
	default:
		idle := drainTime
		if a.phase == reading {
			idle = p.Idle
		}
		a.struck = newTimeout(kind, a.c.up.name, idle)
	}
	struck, inBody := a.struck, a.phase >= reading
	a.mu.Unlock()
	a.cancel(struck)
	if inBody {
		// A base that does not watch the context between the headers and the
		// end of the body lets go of the Read when the body is closed.
		a.body.closeOnce()
	}
}

// enter changes the phase, and says what struck before it could.
func (a *attempt) enter(ph phase) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.struck != nil {
		return a.struck
	}
	was := a.phase
	a.phase = ph
	if ph == reading || ph == draining && was != draining {
		a.since = a.c.since()
		a.arm(a.since)
	}
	return nil
}

// toBase sends the request and judges what comes.
func (a *attempt) toBase() result {
	c := a.c
	inner, err := a.request()
	if err != nil { // the body could not be had again
		a.finish(ignored)
		return result{err: err, refused: true, final: true}
	}
	n := c.attempts.Add(1)
	var began time.Duration
	if c.t.Observe != nil {
		began = c.since()
	}
	base := c.up.base
	if base == nil {
		base = c.t.base()
	}
	resp, err := base.RoundTrip(inner)

	if resp != nil && err != nil { // a broken base: leak nothing
		closeBody(resp)
		resp = nil
	}
	if resp == nil && err == nil {
		err = errNeither
	}
	struck := a.enter(headers)
	if struck != nil {
		if resp != nil {
			closeBody(resp)
		}
		resp, err = nil, struck
	}
	a.loose = resp
	r := c.classify(resp, err, struck)
	r.attempt = a
	if c.t.Observe != nil {
		e := c.event(Attempted)
		e.Attempt, e.Status, e.Err, e.Took = int(n), r.status, err, c.since()-began
		c.t.tell(e)
	}
	a.settle(&r)
	return r
}

// settle ends the attempt's admission at the headers, and either gives its
// permit back or ties it to the body.
func (a *attempt) settle(r *result) {
	c := a.c
	if b := c.breaker(); b != nil {
		ch := b.record(a.ticket, r.outcome)
		a.ticket = spent
		c.circuit(ch)
	}
	if r.resp == nil || bodiless(c.req.Method, r.resp) {
		a.release()
		return
	}
	a.body.wrap(a, r.resp)
	a.loose = nil
}

// finish ends an attempt that did not get as far as a response.
func (a *attempt) finish(o outcome) {
	if b := a.c.breaker(); b != nil && a.ticket != spent {
		a.c.circuit(b.record(a.ticket, o))
		a.ticket = spent
	}
	a.release()
}

// spent marks a ticket that was recorded. No word has all its bits set.
const spent = ^ticket(0)

// abandon is finish for a panic: nothing of it is told, and nobody will close
// the response.
func (a *attempt) abandon() {
	defer a.release()
	if b := a.c.breaker(); b != nil && a.ticket != spent {
		b.record(a.ticket, ignored)
		a.ticket = spent
	}
	switch {
	case a.loose != nil:
		closeBody(a.loose)
	case a.body.rc != nil:
		a.body.closeOnce()
	}
}

// release gives back all that the attempt holds, once.
func (a *attempt) release() {
	if !a.ended.CompareAndSwap(false, true) {
		return
	}
	a.mu.Lock()
	if a.timer != nil {
		a.timer.Stop()
	}
	a.mu.Unlock()
	a.permit.Release()
	a.cancel(nil)
	if a.c.unlink != nil {
		a.c.unlink()
	}
}

// request is what the base gets: the caller's, with our context, and with our
// header and body where they differ.
func (a *attempt) request() (*http.Request, error) {
	c := a.c
	inner := c.req.WithContext(a.ctx)
	inner.Header = c.header
	if c.upload == nil {
		return inner, nil
	}
	body, err := c.upload.open(a)
	if err != nil {
		return nil, err
	}
	inner.Body = body
	if c.upload.get != nil {
		inner.GetBody = c.upload.replay
	}
	return inner, nil
}

// bodiless says whether no body follows these headers.
func bodiless(method string, r *http.Response) bool {
	return r.Body == nil || r.Body == http.NoBody || method == http.MethodHead ||
		r.StatusCode == http.StatusNoContent || r.StatusCode == http.StatusNotModified
}

func closeBody(r *http.Response) {
	if r.Body != nil {
		r.Body.Close()
	}
}
