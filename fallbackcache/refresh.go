package fallbackcache

import (
	"net/http"
	"strconv"
	"time"
)

// refresh gives a stored entry the fields of a 304 that names it by its
// validator (RFC 9111, section 4.3.4). It cannot happen by chance: the caller
// asked with a validator of its own, and the entry must have the same. It
// returns the entry as refreshed, nil if there is none. If the 304 forbids
// storing, what is returned is not stored any more.
func (c *Cache) refresh(req *http.Request, resp *http.Response, asked Stamp, now time.Time) *entry {
	rh := canonical(req.Header)
	uri, who, fit, asked := c.affected(req, resp, rh, asked)
	old := choose(fit, rh)
	h := canonical(resp.Header)
	if old == nil || !sameValidator(old, h) {
		return nil
	}
	e, v := c.renewed(old, req, resp, h, now)
	switch {
	case !v.keep:
		c.remove(uri, who, fit)
	case !sameSelection(v.vary, rh, resp.Request):
		return nil
	default:
		c.put(e, fit, asked)
	}
	return e
}

// hear is told of the answer to a HEAD: what is stored for the same request is
// refreshed by it, or has changed and counts as stale from now on (RFC 9111,
// section 4.3.5).
func (c *Cache) hear(req *http.Request, resp *http.Response, asked Stamp, now time.Time) {
	if resp.StatusCode != http.StatusOK {
		return
	}
	c.ready()
	if !c.mayHold(req) {
		return
	}
	rh := canonical(req.Header)
	if forOrigin(rh) || conditional(rh) {
		return
	}
	uri, who, fit, asked := c.affected(req, resp, rh, asked)
	h := canonical(resp.Header)
	for _, old := range fit {
		if !sameHead(old, h) {
			e := *old
			e.fresh.lifetime = min(e.fresh.lifetime, e.fresh.ageAt(now))
			c.put(&e, []*entry{old}, asked)
			continue
		}
		e, v := c.renewed(old, req, resp, h, now)
		if !v.keep {
			c.remove(uri, who, []*entry{old})
		} else if sameSelection(v.vary, rh, resp.Request) {
			c.put(e, []*entry{old}, asked)
		}
	}
}

// affected returns the entries that a response without a body may be about:
// those that its request selects.
func (c *Cache) affected(req *http.Request, resp *http.Response, rh http.Header, asked Stamp) (uri string, who audience, fit []*entry, since Stamp) {
	c.ready()
	uri, ok := plain(req)
	if !ok {
		return
	}
	since = c.since(asked, req)
	if !c.mayHold(req) || len(rh["Range"]) > 0 || readRequest(rh).noStore || !c.sameSender(req, resp.Request, rh) {
		return
	}
	who = c.who(req, rh)
	return uri, who, fitting(c.find(uri, who), rh), since
}

// renewed is an entry with the fields of h in place of its own (RFC 9111,
// section 3.2), and what follows from them.
func (c *Cache) renewed(old *entry, req *http.Request, resp *http.Response, h http.Header, now time.Time) (*entry, verdict) {
	merged, _ := old.header(0)
	hop := hopByHop(h)
	for name, values := range h {
		if !notRefreshed[name] && !hop[name] {
			merged[name] = values
		}
	}
	if len(h["Date"]) == 0 {
		delete(merged, "Date") // the stored one is of another message; it gets a new one
	}
	v := c.shareable(merged, judge(classOf(old.status), merged, now))
	e := c.newEntry(old.uri, old.who, canonical(req.Header), resp, merged, v)
	e.status, e.statusText, e.decoded = old.status, old.statusText, old.decoded
	e.complete(old.body)
	return e, v
}

// notRefreshed are the fields that a 304 does not bring anew (RFC 9111, section
// 3.2): those of its own message, and the coding of the stored bytes, which may
// have been decoded and are the same for one ETag.
var notRefreshed = map[string]bool{
	"Connection":        true,
	"Content-Encoding":  true,
	"Content-Length":    true,
	"Content-Range":     true,
	"Transfer-Encoding": true,
}

// sameValidator tells whether a 304 with header h is about e (RFC 9111, section
// 4.3.4): by its ETag, which is compared strongly unless it is weak itself, or,
// if it has none, by Last-Modified. Without either it may be about another copy,
// of the caller's.
func sameValidator(e *entry, h http.Header) bool {
	modified := first(h, "Last-Modified")
	switch tag := first(h, "Etag"); {
	case tag != "" && weak(tag) != tag:
		return weak(tag) == weak(e.etag)
	case tag != "":
		return tag == e.etag
	case modified != "":
		return modified == e.line("Last-Modified")
	}
	return false
}

// sameHead tells whether the answer to a HEAD describes e, as far as it says
// anything.
func sameHead(e *entry, h http.Header) bool {
	tag, modified, length := first(h, "Etag"), first(h, "Last-Modified"), first(h, "Content-Length")
	return e.status == http.StatusOK &&
		(tag == "" || tag == e.etag) &&
		(modified == "" || modified == e.line("Last-Modified")) &&
		(length == "" || length == strconv.Itoa(len(e.body)))
}
