package transport

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resagent/resagent/agent/client"
)

// attempt is one try: its lifetime, an alarm, a permit, and the response's body
// once there is one.
//
// The alarm is not moved when the deadline moves. It strikes at the earliest
// time that could be meant, asks what is due, and sets itself again if that is
// later. So a body that streams costs a note of the time per Read, and a call
// that ends in time sets it once.
type attempt struct {
	c      *call
	life   *lifetime
	ticket ticket
	permit client.Permit
	probe  *probe // of a circuit that the host shares; nil: it is none

	begun time.Duration // since c.start
	moved atomic.Int64  // since c.start, when the request body last moved; 0: not yet
	inner *http.Request // a hedge's copy of the request; nil: the attempt is none

	undecided atomic.Bool // the call may yet be another attempt's: its end is not this one's
	overtaken atomic.Bool // cancelled because another attempt won
	ended     atomic.Bool
	place     int32         // in its part of the alarms, from 1 on; 0: not in it. Theirs, as is strikes
	strikes   time.Duration // as fires, since epoch
	told      bool          // what became of it, to the circuits
	idles     bool          // the idle timeout applies to its body
	part      uint8         // of the alarms, as long as it lives
	streams   bool          // its answer came over HTTP/2 or later

	mu     sync.Mutex // guards what follows
	phase  phase
	since  time.Duration // when the phase began, since c.start; while waiting: when it was let through, or unknown
	fires  time.Duration // when the alarm will, since c.start; 0: it is not set
	struck error         // why the alarm cancelled the attempt

	loose *http.Response // what the base gave, until it is certain who closes it
	body  body
}

// probe is an attempt's leave to pass a half-open circuit.
type probe struct {
	hostProbe
	ends time.Duration // since c.start, when its time is over
}

func (c *call) newAttempt() *attempt {
	a := &c.first // begun at 0, or near enough, unless policy said otherwise
	if a.c != nil {
		a = &attempt{begun: c.since()}
	}
	c.newest = a
	a.open(c)
	return a
}

// open gives the attempt its context and its alarm.
func (a *attempt) open(c *call) {
	a.c = c
	a.life = newLifetime(c)
	p := c.rules.Timeout
	if p == nil {
		return
	}
	a.part = nearPart(a)
	first := p.Attempt
	if c.total > 0 {
		if left := max(1, c.total-a.begun); first == 0 || left < first {
			first = left
		}
	}
	if first > 0 { // until now nobody else knows of a
		a.fires = a.begun + first
		c.alarm(a, a.begun)
	}
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
	resp, err := c.base().RoundTrip(inner)
	if c.upload != nil {
		c.upload.returned()
	}

	if resp != nil && err != nil { // a broken base: leak nothing
		closeBody(resp)
		resp = nil
	}
	if resp == nil {
		if err == nil {
			err = errNeither
		}
		if body, ok := inner.Body.(*uploadReader); ok {
			body.end()
		}
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
	c.told(&r)
	if err != nil && a.overtaken.Load() { // how it would have ended nobody knows
		r.outcome, r.final = ignored, true
	}
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
	a.report(r.outcome, r.own)
	a.streams = r.resp != nil && r.resp.ProtoMajor >= 2
	switch {
	case r.resp == nil:
		a.release()
		return
	case bodiless(a.method(), r.resp):
		a.answered()
		return
	}
	a.body.wrap(a, r.resp)
	a.loose = nil
}

// finish ends an attempt that did not get as far as a response.
func (a *attempt) finish(o outcome) {
	a.report(o, false)
	a.release()
}

// report tells the circuits, this process's and the host's, what became of
// the attempt, once.
func (a *attempt) report(o outcome, own bool) {
	b := a.c.breaker()
	if b == nil || a.told || a.ticket == spent {
		return
	}
	t, p := a.ticket, a.probe
	a.told = true
	if b.slow > 0 {
		o = a.timed(o, b.slow)
	}
	switch {
	case b.host == nil:
	case b.throttle != nil:
		b.host.Called(a.c.start) // orders and pauses are the host's
	default:
		b.tellHost(t, p, o, own, a.c.start)
	}
	a.c.circuit(b.record(t, o))
}

// timed makes of an outcome the one of a call that took longer than most.
func (a *attempt) timed(o outcome, most time.Duration) outcome {
	a.mu.Lock()
	since := a.since
	a.mu.Unlock()
	if a.c.since()-max(since, time.Duration(a.moved.Load())) <= most {
		return o
	}
	switch o {
	case success:
		return slowSuccess
	case failure:
		return slowFailure
	}
	return o
}

// spent marks an attempt that has no ticket. No word has all its bits set.
const spent = ^ticket(0)

// abandon is finish for a panic: nothing of it is told, and nobody will close
// the response.
func (a *attempt) abandon() {
	defer a.release()
	if b := a.c.breaker(); b != nil && !a.told && a.ticket != spent {
		b.record(a.ticket, ignored)
		if a.probe != nil {
			a.probe.End(client.ProbeNothing)
		}
		a.told = true
	}
	switch {
	case a.loose != nil:
		closeBody(a.loose)
	case a.body.rc != nil:
		a.body.closeOnce()
	}
}

// release gives back all that the attempt holds, and ends its context.
func (a *attempt) release() {
	a.giveBack()
	a.life.end(nil)
}

// answered is release at the end of a whole response. The base may be sending
// the request still, over HTTP/2: then the context ends with that.
func (a *attempt) answered() {
	a.giveBack()
	if u := a.c.upload; u == nil || !a.streams || !u.outlasts(a) {
		a.life.end(nil)
	}
}

// giveBack gives back what others wait for, once.
func (a *attempt) giveBack() {
	if !a.ended.CompareAndSwap(false, true) {
		return
	}
	a.c.t.alarms.of(a).drop(a)
	a.permit.Release()
	if a.c.unlink != nil && !a.undecided.Load() {
		a.c.unlink()
	}
}

// request is what the base gets: the caller's, with our context, and with our
// header and body where they differ.
func (a *attempt) request() (*http.Request, error) {
	c := a.c
	if a.inner != nil {
		return a.inner, nil
	}
	inner := c.req.WithContext(a.context())
	inner.Header = c.stamped(c.header)
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

// method is the request's. A hedge asks its own copy: it may end when the
// request is the caller's again.
func (a *attempt) method() string {
	if a.inner != nil {
		return a.inner.Method
	}
	return a.c.req.Method
}

// bodiless says whether no body follows these headers. The status does not say
// so: over HTTP/2 the end of a stream may come after the headers of a 204.
func bodiless(method string, r *http.Response) bool {
	return r.Body == nil || r.Body == http.NoBody || method == http.MethodHead
}

func closeBody(r *http.Response) {
	if r.Body != nil {
		r.Body.Close()
	}
}
