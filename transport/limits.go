package transport

import (
	"context"
	"errors"

	"github.com/resagent/resagent/agent/client"
)

// admit takes the attempt through the circuit, the bulkhead and the rate
// limit. False: this host says no, or the call's time is over, and nothing is
// held any more.
//
// The circuit comes first, so that an open one spends no permit, and is read
// again afterwards, because it may have opened meanwhile. The token comes
// last, so that none is spent on a call that is then refused.
func (a *attempt) admit() (result, bool) {
	c := a.c
	a.ticket = spent
	if c.total > 0 && a.begun >= c.total {
		return a.refuse(c.totalTimeout()), false
	}
	b := c.breaker()
	if b != nil {
		t, ok, wait := b.admit()
		if !ok {
			return a.refuse(&RejectedError{Upstream: c.up.name, Reason: ErrCircuitOpen, RetryAfter: wait}), false
		}
		a.ticket = t
	}
	if r, ok := a.take(); !ok {
		return r, false
	}
	if b != nil && !b.stands(a.ticket) {
		// Also when it closed: the ticket's epoch is over, and with it the
		// right to be counted. That call may ask again at once.
		t, ok, wait := b.admit()
		if !ok {
			return a.refuse(&RejectedError{Upstream: c.up.name, Reason: ErrCircuitOpen, RetryAfter: wait}), false
		}
		a.ticket = t
	}
	return result{}, true
}

// take gets a permit and then a token.
func (a *attempt) take() (r result, ok bool) {
	c := a.c
	if c.info != nil { // nobody else asks how long it took
		began := c.since()
		defer func() { c.waited += c.since() - began }()
	}
	permit, err := c.up.limits.Acquire(a.ctx)
	if err != nil {
		return a.refuse(c.refusal(ErrBulkheadFull, err)), false
	}
	a.permit = permit
	if err := c.up.limits.Take(a.ctx); err != nil {
		return a.refuse(c.refusal(ErrRateLimited, err)), false
	}
	return result{}, true
}

// refusal turns the limits' error into the caller's.
func (c *call) refusal(reason, err error) error {
	var no *client.Refused
	switch {
	case errors.As(err, &no):
		return &RejectedError{Upstream: c.up.name, Reason: reason, Detail: string(no.Reason), RetryAfter: no.RetryAfter}
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	}
	return err // the total timeout, by way of the attempt's context
}

// refuse gives back what was held and ends the attempt unsent.
func (a *attempt) refuse(err error) result {
	c := a.c
	a.finish(ignored)
	r := result{err: err, refused: true, final: true}
	var no *RejectedError
	if c.t.Observe != nil && errors.As(err, &no) {
		e := c.event(Refused)
		e.Err, e.Wait, e.Detail = err, no.RetryAfter, no.Detail
		c.t.tell(e)
	}
	return r
}
