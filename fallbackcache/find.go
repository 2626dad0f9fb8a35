package fallbackcache

import (
	"net/http"
	"time"
)

// Find looks for an answer to req that may be given at now, although its
// freshness may have ended up to maxStale ago; with a maxStale of 0 or less
// only a fresh one. Ok is false where there is none. It does not touch the
// network. Without [Cache.Dir] a request for which it finds nothing costs no
// more than a look into a map; with it, one into a folder.
//
// Only GET and HEAD are answered, and only what can be answered in full:
// nothing with a body, a Range, an Upgrade, or a precondition that is for the
// origin to judge (If-Match, If-Unmodified-Since). The request's own
// directives can narrow what is given, never widen it.
func (c *Cache) Find(req *http.Request, maxStale time.Duration, now time.Time) (*Answer, bool) {
	if !isGet(req) && req.Method != http.MethodHead {
		return nil, false
	}
	c.ready()
	if withBody(req) {
		return nil, false
	}
	if !c.mayHold(req) {
		c.counts.misses.Add(1)
		return nil, false
	}
	uri, ok := target(req)
	if !ok {
		return nil, false
	}
	h := canonical(req.Header)
	for _, name := range originOnly {
		if len(h[name]) > 0 {
			return nil, false
		}
	}
	e := choose(c.find(uri, c.who(req, h)), h)
	if e == nil || e.loaded && e.fresh.arrived.After(now.Add(clockSkew)) {
		c.counts.misses.Add(1)
		return nil, false
	}
	age := e.fresh.ageAt(now)
	if !e.fresh.permits(age, maxStale, readRequest(h)) {
		c.counts.misses.Add(1)
		return nil, false
	}
	c.counts.hits.Add(1)
	return &Answer{
		Age:      age,
		TTL:      e.fresh.lifetime - age,
		StoredAt: e.fresh.arrived,
		entry:    e,
	}, true
}

// clockSkew is how far in the future an answer from the disk may seem to have
// come. One from further ahead was stored under another time: its age is not
// known.
const clockSkew = time.Minute

// originOnly are request fields that only the origin can act on (RFC 9111,
// section 4.3.2), or that ask for something else than the whole answer.
var originOnly = [...]string{"Range", "If-Range", "If-Match", "If-Unmodified-Since", "Upgrade"}
