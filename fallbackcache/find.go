package fallbackcache

import (
	"net/http"
	"time"
)

// Find is [Cache.Look] for an answer that may be given although the upstream
// did not say so just now; ok is false where there is none.
func (c *Cache) Find(req *http.Request, maxStale time.Duration, now time.Time) (a *Answer, ok bool) {
	if a = c.Look(req, maxStale, now); a == nil || !a.Servable {
		return nil, false
	}
	return a, true
}

// Look looks for the stored answer to req, and tells what may be done with it
// at now: nil where there is none. MaxStale is how long after its freshness
// ended the operator lets an answer be given, in place of what the origin says;
// 0 or less: as long as the origin says, or the request. Look does not touch the network.
// Without [Cache.Dir] a request for which it finds nothing costs no more than a
// look into a map; with it, one into a folder.
//
// Only GET and HEAD are answered, and only what can be answered in full:
// nothing with a body, a Range, an Upgrade, or a precondition that is for the
// origin to judge (If-Match, If-Unmodified-Since). The request's own
// directives can narrow what is given, never widen it beyond what the operator
// says.
func (c *Cache) Look(req *http.Request, maxStale time.Duration, now time.Time) *Answer {
	if !isGet(req) && req.Method != http.MethodHead {
		return nil
	}
	c.ready()
	if withBody(req) {
		return nil
	}
	if !c.mayHold(req) {
		c.counts.misses.Add(1)
		return nil
	}
	uri, ok := target(req)
	if !ok {
		return nil
	}
	h := canonical(req.Header)
	if forOrigin(h) {
		return nil
	}
	e := choose(c.find(uri, c.who(req, h)), h)
	if e == nil || e.loaded && e.fresh.arrived.After(now.Add(clockSkew)) {
		c.counts.misses.Add(1)
		return nil
	}
	a := e.answer(now)
	a.counts = &c.counts
	e.permit(a, isGet(req), maxStale, readRequest(h))
	if a.Servable {
		c.counts.hits.Add(1)
	} else {
		c.counts.misses.Add(1)
	}
	return a
}

// answer is the entry as it is at now.
func (e *entry) answer(now time.Time) *Answer {
	age := e.fresh.ageAt(now)
	return &Answer{Age: age, TTL: e.fresh.lifetime - age, StoredAt: e.fresh.arrived, entry: e}
}

// permit finds out what may be done with an answer for a request with these
// directives.
func (e *entry) permit(a *Answer, get bool, maxStale time.Duration, cc requestControl) {
	a.anew = cc.noCache || cc.noStore
	f := e.fresh
	if f.permits(a.Age, maxStale, cc) {
		a.Servable = true
	} else if a.anew {
		return
	}
	onError := cc
	cc.staleIfError = delta{} // which is about failures, and there is none yet
	if f.within(a.Age, 0, cc) {
		a.Servable, a.Immediate = true, true
		return
	}
	// What is stale is the origin's to allow, and on a failure the client's,
	// where the operator leaves it to them. Parsed here, since few get here.
	said := e.control()
	if said.neverStale || said.noCache {
		return
	}
	if maxStale <= 0 && f.permits(a.Age, max(said.staleIfError.d, onError.tolerates()), onError) {
		a.Servable = true
	}
	window := said.staleWhileRevalidate.d
	if maxStale > 0 {
		window = min(window, maxStale)
	}
	// A HEAD brings nothing that could be stored instead.
	if get && window > 0 && f.within(a.Age, window, cc) {
		a.Servable, a.Immediate = true, true
	}
}

// clockSkew is how far in the future an answer from the disk may seem to have
// come. One from further ahead was stored under another time: its age is not
// known.
const clockSkew = time.Minute

// originOnly are request fields that only the origin can act on (RFC 9111,
// section 4.3.2), or that ask for something else than the whole answer.
var originOnly = [...]string{"Range", "If-Range", "If-Match", "If-Unmodified-Since", "Upgrade"}

// forOrigin tells whether a request has one of these.
func forOrigin(h http.Header) bool {
	for _, name := range originOnly {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}
