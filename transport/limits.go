package transport

import (
	"context"
	"errors"

	"github.com/resagent/resagent/agent/client"
)

// admit takes the attempt through the circuit, the bulkhead and the rate
// limit. An error: this host says no, or the call's time is over, and nothing is
// held any more.
//
// The circuit comes first, so that an open one spends no permit, and is read
// again after each wait, because it may have opened meanwhile. The token comes
// last, so that none is spent on a call that is then refused.
func (a *attempt) admit() error {
	c := a.c
	a.ticket, a.since = spent, unknown
	if c.total > 0 && a.begun >= c.total {
		return a.refuse(c.totalTimeout())
	}
	if err := a.circuit(); err != nil {
		return err
	}
	if err := a.paused(); err != nil {
		return err
	}
	if c.info != nil && a.inner == nil { // nobody else asks how long it took
		began := c.since()
		defer func() { c.waited += c.since() - began }()
	}
	var err error
	permit, atOnce := c.up.limits.TryAcquire()
	if !atOnce {
		if permit, err = c.up.limits.Acquire(a.life); err != nil {
			return a.refuse(a.refusal(ErrBulkheadFull, err))
		}
	}
	a.permit = permit
	if err := a.circuit(); err != nil {
		return err
	}
	if !c.up.limits.TryTake() {
		atOnce = false
		if err := c.up.limits.Take(a.life); err != nil {
			return a.refuse(a.refusal(ErrRateLimited, err))
		}
	}
	was := a.ticket
	if err := a.circuit(); err != nil {
		return err
	}
	if atOnce && a.ticket == was && a.probe == nil { // asked again, it may have taken its time
		a.since = a.begun
	}
	return nil
}

// circuit asks whether the attempt may pass, if that is not certain already. A
// ticket of an epoch that is over has lost the right to be counted, also if the
// circuit was closed; such an attempt asks again.
func (a *attempt) circuit() error {
	b := a.c.breaker()
	if b == nil || a.ticket != spent && b.stands(a.ticket) || a.probe != nil {
		return nil
	}
	a.c.circuit(b.follow())
	t, ok, wait := b.admit()
	if !ok && b.probing() {
		if p := b.host.Probe(a.life); p.Given() {
			a.probe, t, ok = &probe{p, a.c.since() + client.ProbeTime}, hostsProbe, true
		}
	}
	if !ok {
		return a.refuse(&RejectedError{Upstream: a.c.up.name, Reason: ErrCircuitOpen, RetryAfter: wait})
	}
	a.ticket = t
	return nil
}

// refusal turns the limits' error into the caller's.
func (a *attempt) refusal(reason, err error) error {
	c := a.c
	var no *client.Refused
	switch {
	case errors.As(err, &no):
		return &RejectedError{Upstream: c.up.name, Reason: reason, Detail: string(no.Reason), RetryAfter: no.RetryAfter}
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	}
	return a.cause() // the total timeout
}

// refuse gives back what was held, tells of it, and returns the error.
func (a *attempt) refuse(err error) error {
	a.finish(ignored)
	var no *RejectedError
	if a.c.t.Observe != nil && errors.As(err, &no) {
		a.c.refusedEvent(no)
	}
	return err
}

// refusedEvent tells of our own no.
func (c *call) refusedEvent(no *RejectedError) {
	e := c.event(Refused)
	e.Err, e.Wait, e.Detail = no, no.RetryAfter, no.Detail
	c.t.tell(e)
}

// unsent is what an attempt came to that was not let through.
func unsent(err error) result { return result{err: err, refused: true, final: true} }
