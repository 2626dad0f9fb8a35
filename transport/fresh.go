package transport

import (
	"context"
	"net/http"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// fresh answers without a call, with serve_fresh, from what is stored; nil: it
// may not. What is stale, and given because the origin says so
// (stale-while-revalidate, RFC 5861, section 3), is asked for anew meanwhile.
func (c *call) fresh(stored *fallbackcache.Answer) *http.Response {
	if stored == nil || !stored.Immediate {
		return nil
	}
	c.served = FromFresh
	if stored.TTL <= 0 {
		c.served = FromRevalidating
		if !fallbackcache.OnlyIfCached(c.req) {
			c.revalidate(stored)
		}
	}
	c.cached(string(c.served), 0)
	return stored.Response(c.req, fallbackcache.Outcome{})
}

// collapse lets a GET that finds nothing fresh wait for one like it that is
// under way, whose answer may do for both, or has others wait for this one. Resp
// and err are nil if the call is to be made. Late: the wait was as long as one
// for the upstream may be, and there is an answer that may be given instead.
//
// Nobody waits for longer than the policy's after, or half of the time that it
// has: then it makes a call of its own, as it does when the other call fails, is
// given up, or brings an answer that is not for both.
func (c *call) collapse(p *policies.Stale, stored, answer *fallbackcache.Answer) (resp *http.Response, err error, late bool) {
	wait := p.After
	if wait == 0 {
		wait = collapseTime
	}
	f, leads := c.t.cache().Join(c.req, wait, c.start)
	if f == nil {
		return nil, nil, false
	}
	if leads {
		c.flight = f
		return nil, nil, false
	}
	if p := c.rules.Timeout; p != nil && p.Total > 0 {
		wait = min(wait, p.Total/2)
	}
	if d := c.callersDeadline(); d > 0 {
		wait = min(wait, d/2)
	}
	began := c.since()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	defer func() {
		c.first.begun = c.since()
		c.waited += c.first.begun - began
	}()
	select {
	case <-f.Done():
		if a, ok := f.Answer(c.req, stored, p.MaxStale, time.Now()); ok {
			c.served = FromCollapsed
			e := c.event(Collapsed)
			e.Wait = c.since() - began
			c.t.tell(e)
			return a.Response(c.req, fallbackcache.Outcome{}), nil, false
		}
	case <-timer.C:
		late = answer != nil && p.After > 0
	case <-c.ctx.Done():
		err = context.Cause(c.ctx)
	case <-c.cancelled():
		err = errCancelled
	}
	return nil, err, late
}

// collapseTime is how long a call waits for another where the policy's after is
// none.
const collapseTime = time.Second

// land ends the flight that the call leads, if its response has not taken that
// over.
func (c *call) land() {
	if c.flight != nil {
		c.flight.End()
		c.flight = nil
	}
}
