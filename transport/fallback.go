package transport

import (
	"net/http"
	"slices"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// withFallback answers a call that failed: with what the upstream last said,
// else with a fixed answer. A call fails by an error, our own refusals and
// timeouts included, and by the policy's statuses. A caller that ended its own
// call, or made a request that cannot be sent, gets its own error.
//
// With serve_fresh, what is stored and fresh is given without a call at all, and
// of simultaneous calls for the same that is not, one is made.
// Where a GET has another answer in the cache, the upstream is asked whether that
// still holds, and need not send it again if it does, also where the answer could
// not be given on a failure.
//
// A GET or HEAD with Cache-Control: only-if-cached is answered from the cache
// or with 504, where the policy has one. Stale answers are for GET and HEAD; a
// fixed one is for the methods that the policy names.
func (c *call) withFallback() (*http.Response, error) {
	p := c.rules.Fallback
	if p == nil {
		resp, err := c.send()
		return c.store(resp, fallbackcache.Stamp{}), err
	}
	var stored, answer *fallbackcache.Answer // what there is, and what may be given if the call fails
	if p.Stale != nil && reads(c.req.Method) {
		c.begin()
		stored = c.t.cache().Look(c.req, p.Stale.MaxStale, c.start)
		if p.Stale.ServeFresh {
			if resp := c.fresh(stored); resp != nil {
				return resp, nil
			}
		}
		if stored != nil && stored.Servable {
			answer = stored
		}
		if fallbackcache.OnlyIfCached(c.req) {
			return c.fromCache(answer), nil
		}
		if answer != nil {
			c.tries = 1 // the first failure is answered, not repeated
		}
		if stored != nil && c.upload == nil {
			if h := stored.Condition(c.req); h != nil {
				c.header, c.asks = h, true
			}
		}
	}
	var resp *http.Response
	var err error
	var asked fallbackcache.Stamp
	late := false
	if p.Stale != nil && p.Stale.ServeFresh && c.upload == nil {
		if resp, err, late = c.collapse(p.Stale, stored, answer); resp != nil || err != nil {
			return resp, err
		}
	}
	if p.Stale != nil && reads(c.req.Method) {
		asked = c.t.cache().Stamp(c.req) // before the call: what is changed meanwhile is not stored
	}
	switch {
	case late:
	case answer != nil && p.Stale.After > 0 && c.upload == nil:
		resp, err, late = c.race(p.Stale.After, asked)
	default:
		resp, err = c.send()
	}
	if !late {
		if c.asks && err == nil && resp.StatusCode == http.StatusNotModified {
			return c.confirmed(stored, resp, asked), nil
		}
		if !c.failed(resp, err) || c.gaveUp() || c.mistaken(err) {
			return c.store(resp, asked), err
		}
	}
	if answer != nil { // its age is that of now
		if a, ok := c.t.cache().Find(c.req, p.Stale.MaxStale, time.Now()); ok {
			answer = a
		} else if !late {
			answer = nil
		}
	}
	switch {
	case answer != nil:
		status := c.drop(resp, FromStale, err)
		return answer.Response(c.req, fallbackcache.Outcome{Attempted: c.attempts.Load() > 0, Status: status}), nil
	case p.Static != nil && answers(p.Static, c.req.Method):
		status := c.drop(resp, FromStatic, err)
		return static(p.Static, c.req, staticMark(c.attempts.Load() > 0, status)), nil
	}
	return c.store(resp, asked), err
}

// confirmed gives the stored answer, of which the upstream has just said that
// it is unchanged.
func (c *call) confirmed(answer *fallbackcache.Answer, resp *http.Response, asked fallbackcache.Stamp) *http.Response {
	c.served = FromConfirmed
	c.cached("confirmed", resp.StatusCode)
	confirm := c.t.cache().Confirm
	if c.flight != nil {
		confirm = c.flight.Confirm
	}
	out := confirm(c.req, answer, resp, asked, c.start)
	discard(resp)
	return out
}

// fromCache answers a request that is not to touch the network (RFC 9111,
// section 5.2.1.7). Answer is nil where there is none.
func (c *call) fromCache(answer *fallbackcache.Answer) *http.Response {
	if answer != nil {
		c.served = FromStale
		return answer.Response(c.req, fallbackcache.Outcome{})
	}
	c.served = FromHost
	return static(&policies.Static{Status: http.StatusGatewayTimeout}, c.req, "resagent; detail=only-if-cached")
}

// reads says whether a method's answers can come from a cache.
func reads(method string) bool {
	return method == http.MethodGet || method == "" || method == http.MethodHead
}

// failed says whether a call came to nothing, as its policy sees it.
func (c *call) failed(resp *http.Response, err error) bool {
	return err != nil || slices.Contains(c.rules.Fallback.Statuses, resp.StatusCode)
}

// cache is the one given, else the transport's own. It is never the session's:
// transports of one session may have bases that call as different users.
func (t *Transport) cache() *fallbackcache.Cache {
	if t.Cache != nil {
		return t.Cache
	}
	return &t.own
}

// store keeps a good answer while the caller reads it, if its policy says so,
// and forgets what an unsafe request has changed, whatever that one's policy
// says. The base's own request is still on the response here: the cache looks
// at it for credentials that the base added.
func (c *call) store(resp *http.Response, asked fallbackcache.Stamp) *http.Response {
	if resp == nil {
		return nil
	}
	if !safe(c.req.Method) {
		if c.t.Cache != nil || c.t.keeps.Load() {
			c.t.cache().Invalidate(c.req, resp)
		}
		return resp
	}
	if p := c.rules.Fallback; p == nil || p.Stale == nil {
		return resp
	}
	// Its age counts from the request (RFC 9111, section 4.2.3): how long it
	// was on its way nobody else tells.
	var told func(fallbackcache.Fate)
	if c.t.Observe != nil {
		status := resp.StatusCode
		told = func(f fallbackcache.Fate) { c.cached(f.String(), status) }
	}
	if f := c.flight; f != nil {
		c.flight = nil // it ends with the response's body
		return f.Keep(c.req, resp, asked, c.start, told)
	}
	return c.t.cache().KeepAnd(c.req, resp, asked, c.start, told)
}

// begin has unsafe calls invalidate from now on, and tells of a cache that cannot
// be what it should.
func (c *call) begin() {
	if c.t.keeps.Load() || c.t.keeps.Swap(true) {
		return
	}
	if err := c.t.cache().Open(); err != nil {
		e := c.event(NotApplied)
		e.Err, e.Detail = err, "the cache has no disk store, and goes on in memory"
		c.t.tell(e)
	}
}

// cached tells of what the cache did, which may be after the call's end.
func (c *call) cached(what string, status int) {
	if c.t.Observe != nil {
		e := c.event(Cached)
		e.Status, e.Detail = status, what
		c.t.tell(e)
	}
}

// drop discards the upstream's failed answer in favour of another, and tells
// of it.
func (c *call) drop(resp *http.Response, s Source, err error) (status int) {
	if resp != nil {
		status = resp.StatusCode
		discard(resp)
	}
	c.served = s
	e := c.event(Served)
	e.Status, e.Err, e.Detail = status, err, string(s)
	c.t.tell(e)
	return status
}
