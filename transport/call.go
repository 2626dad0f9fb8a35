package transport

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// call is one logical request on its way. One goroutine works on it; what
// others may touch is atomic, or guarded by the attempt's lock.
type call struct {
	t     *Transport
	req   *http.Request   // the caller's, never changed
	ctx   context.Context // the caller's, or one detached from it by a stale answer
	start time.Time       // all times of a call count from here
	info  *Info

	up        *upstream
	authority *authority
	rules     *policies.Policy

	header   http.Header   // what is sent: the caller's, or a copy with a key
	total    time.Duration // 0: none
	deadline time.Duration // the earlier of total and the caller's; 0: none
	upload   *upload       // the request's body; nil: none
	tries    int           // most attempts that may be sent

	waited time.Duration
	served Source

	newest   *attempt
	beside   *hedge                // of an attempt that is under way; nil: none
	reserved *client.Reservation   // of the retry that is waiting or under way; nil: none
	unlink   func()                // ends the tie to a caller's context it was detached from
	flight   *fallbackcache.Flight // that others like it wait for; nil: none, or its body's

	attempts atomic.Int32
	replays  atomic.Int32
	asks     bool // header asks whether a stored answer still holds
	maybe    bool // an attempt may have reached the upstream
	hedged   bool // two attempts were sent beside each other
	hedgeWon bool // and the second's answer is given
	done     bool // RoundTrip returned by itself
	behind   bool // nobody waits for it: it revalidates

	first attempt
}

// since is the time since the call began.
func (c *call) since() time.Duration { return time.Since(c.start) }

// policy finds what applies to the request: one look at immutable data.
func (c *call) policy() {
	before := c.t.table.Load()
	s := c.t.session()
	took := s.AttachAt(c.ctx, c.start)
	tab := c.t.tableFor(s)
	if took || tab != before { // it may have waited for the agent's word
		c.first.begun = c.since()
	}
	if c.info, _ = c.ctx.Value(infoKey{}).(*Info); c.info != nil {
		*c.info = Info{} // what an earlier call left
	}
	c.up, c.authority = c.t.find(s, tab, c.req, c.start)
	c.rules, c.header = c.up.policy, c.req.Header
	if c.rules.Fallback != nil { // ages count by the wall clock
		now := time.Now()
		c.start = now.Add(-now.Sub(c.start))
	}
	c.openUpload()
}

// gaveUp says whether the caller has ended the call: by its context, or by the
// request's Cancel. An http.Client with a Timeout uses both, and which one the
// base hears of first is chance.
func (c *call) gaveUp() bool {
	if c.ctx.Err() != nil {
		return true
	}
	select {
	case <-c.cancelled():
		return true
	default:
		return false
	}
}

// cancelled is the request's Cancel; nil: it has none.
func (c *call) cancelled() <-chan struct{} {
	return c.req.Cancel //lint:ignore SA1019 callers may still use it
}

// base makes the call's attempts.
func (c *call) base() http.RoundTripper {
	if c.up.base != nil { // which knows of no other protocols that the transport's was given
		if s := c.req.URL.Scheme; strings.EqualFold(s, "http") || strings.EqualFold(s, "https") {
			return c.up.base
		}
	}
	return c.t.base()
}

// breaker of the call; nil: none.
func (c *call) breaker() *breaker { return c.authority.breaker }

// deliver gives the caller what the layers came to.
func (c *call) deliver(resp *http.Response, err error) (*http.Response, error) {
	c.done = true
	c.land()
	if c.upload != nil {
		c.upload.finish()
	}
	if resp != nil {
		if resp.Request != c.req {
			resp.Request = c.req
		}
		if c.served == "" {
			c.served = FromUpstream
		}
	}
	c.up.limits.Count(int(c.attempts.Load()), c.served == FromStale || c.served == FromStatic)
	c.fill()
	return resp, err
}

// fill tells the caller's Info what became of the call.
func (c *call) fill() {
	if c.info == nil {
		return
	}
	*c.info = Info{
		Upstream: c.up.name,
		Attempts: int(c.attempts.Load()),
		Replays:  int(c.replays.Load()),
		Waited:   c.waited,
		Served:   c.served,
		Stopped:  c.info.Stopped,
		Hedged:   c.hedged,
		HedgeWon: c.hedgeWon,
	}
	if b := c.breaker(); b != nil {
		c.info.Breaker = b.state().String()
	}
}

// end gives back what a panic, in the base or in a hook, left behind. It does
// nothing after deliver.
func (c *call) end() {
	if c.done {
		return
	}
	c.land()
	if c.beside != nil {
		c.beside.leave()
	}
	if c.newest != nil {
		c.newest.abandon()
	}
	c.consume()
	if c.upload != nil {
		c.upload.abort()
	} else if c.req.Body != nil {
		c.req.Body.Close()
	}
	if c.up != nil {
		c.fill()
	}
}

// stoppedBy notes which no of ours ended the retries.
func (c *call) stoppedBy(why string) {
	if c.info != nil {
		c.info.Stopped = why
	}
}

// event begins an Event about this call.
func (c *call) event(k Kind) Event {
	return Event{Kind: k, Context: c.ctx, Upstream: c.up.name, Authority: c.authority.name, Attempt: int(c.attempts.Load())}
}

// panicked tells of a panic that has no caller any more.
func (c *call) panicked(v any) {
	e := c.event(Panicked)
	e.Detail = fmt.Sprint(v)
	c.t.tell(e)
}

// circuit tells of what an outcome did to the circuit.
func (c *call) circuit(ch change) {
	switch ch {
	case opened:
		e := c.event(CircuitOpened)
		e.Wait = c.breaker().left()
		c.t.tell(e)
	case reclosed:
		c.t.tell(c.event(CircuitClosed))
	}
}
