package transport

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// Transport is an http.RoundTripper that retries, breaks circuits, limits and
// falls back as the policies of the host say. The zero value is ready to use.
// It is safe for concurrent use, must not be copied nor have its fields changed
// after its first call, and needs no closing. In bubbles of testing/synctest each
// needs one of its own, as with http.Transport: its timers belong to the
// bubble of the first call.
type Transport struct {
	// Base makes the attempts. Nil: http.DefaultTransport; where that is another
	// Transport, what that one's attempts are made by; and where it is this one,
	// or leads to it, what it was when the program began. A Base that leads to
	// another Transport by itself has its own say: attempts multiply, and a call
	// takes permits and tokens twice if both are of one session.
	//
	// What no policy names is told apart by scheme and host, and shares its
	// circuit with the calls of all transports of a session. Where a Base leads
	// elsewhere by the same URL (to a Unix socket, by a proxy), give that place
	// a host of its own, as in http://docker/ and http://containerd/.
	Base http.RoundTripper

	// Policies apply as long as no agent has sent any. Nil: every authority
	// gets the built-in policy (retries and circuit breakers; no limits).
	// Transports of one session share an upstream's limits by its name: where
	// two say different things of one name, what the later one says counts for
	// both. So two libraries in one program need names of their own.
	Policies *policies.Snapshot

	// Agent is the session whose limits and policies apply. Nil: the process's
	// one session, client.Default. Circuits, limits and pauses are a session's:
	// a test gives its Transport one of its own that finds no agent, such as
	// &client.Session{Socket: t.TempDir() + "/none"}.
	Agent *client.Session

	// Cache keeps good answers for policies with a fallback.stale section; of
	// others it is only told what their unsafe requests change. Nil: one in
	// memory, this transport's own. Give the same one to several transports
	// only if their bases call as the same user: what a Base adds below this
	// transport (a client certificate, a token) is not part of what an answer
	// is found by.
	Cache *fallbackcache.Cache

	// Observe is called for each Event, in the course of the call it belongs
	// to. It must return soon and be safe for concurrent use. Nil: events cost
	// nothing. For OpenTelemetry, add each event to the span in its Context;
	// an instrumented Base makes a span of each attempt.
	Observe func(Event)

	// Logger hears of circuits, fallbacks and policies that could not be
	// applied, at most one line of a kind per second, with the call's context.
	// Nil: silent.
	Logger *slog.Logger

	own   fallbackcache.Cache // where Cache is nil
	keeps atomic.Bool         // something may be in it
	table atomic.Pointer[table]
	gates [kinds]gate

	alarms alarms // of the attempts under way

	closing atomic.Bool // idle connections

	mu    sync.Mutex // guards what follows, and the making of tables
	pools map[string]pool
	told  map[string]bool

	random func() float64 // in [0,1); nil: math/rand. Tests set it
}

// RoundTrip sends the request on its way through the layers, outermost first:
//
//  1. policy: which upstream is it, and what applies to it
//  2. fallback: wraps all that follows, our own refusals too
//  3. idempotency key: one for all attempts
//  4. total deadline: bounds waiting and the beginning of attempts
//  5. retry or hedge, of attempts which each pass:
//  6. circuit breaker
//  7. bulkhead
//  8. rate limit
//  9. attempt timeout
//  10. base
//
// It keeps the contract of http.RoundTripper: the request is not changed, its
// body is closed, and there is either a response or an error.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || req.Header == nil {
		base := t.Base
		if base == nil {
			base = original
		}
		return base.RoundTrip(req) // which says what is missing
	}
	if t.Base == nil && http.DefaultTransport != original && req.Context().Value(within{t}) != nil {
		return original.RoundTrip(req) // somebody put DefaultTransport around this one
	}
	c := &call{t: t, req: req, ctx: req.Context(), start: clock()}
	defer c.end()
	c.policy()                    // 1
	resp, err := c.withFallback() // 2, and by way of send the others
	return c.deliver(resp, err)
}

// send is what the fallback wraps.
func (c *call) send() (*http.Response, error) {
	if k := c.t.Cache; c.rules.Fallback != nil && k != nil && (k.Dir != "" || k.Partition != nil) {
		c.first.begun = c.since() // a look that may have taken time
	}
	c.mintKey()          // 3
	c.setDeadline()      // 4
	return c.withRetry() // 5, and by way of attempt 6 to 10
}

// attempt is one try at the upstream.
func (c *call) attempt() result {
	a := c.newAttempt()
	if err := a.admit(); err != nil { // 6, 7, 8
		return unsent(err)
	}
	a.startClock()    // 9
	return a.toBase() // 10
}

// CloseIdleConnections closes those of the base and of the upstreams' own
// pools. The transport itself never closes the base's.
func (t *Transport) CloseIdleConnections() {
	base := t.base()
	if t.Base == nil && !t.closing.CompareAndSwap(false, true) {
		base = original // it came back to this one
	} else {
		defer t.closing.Store(false)
	}
	if b, ok := base.(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pools {
		p.transport.CloseIdleConnections()
	}
}

// original is http.DefaultTransport before anybody has put another in its place.
var original = http.DefaultTransport

// within is the key by which the context of an attempt says whose it is.
type within struct{ t *Transport }

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	d, ok := http.DefaultTransport.(*Transport)
	switch {
	case !ok:
		return http.DefaultTransport
	case d == t, d.Base == nil, d.Base == http.RoundTripper(t):
		return original
	}
	return d.Base // the layers of both would wait for each other's permits
}

func (t *Transport) session() *client.Session {
	if t.Agent != nil {
		return t.Agent
	}
	return client.Default()
}
