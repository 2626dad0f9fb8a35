package fallbackcache

import (
	"maps"
	"net/http"
	"time"
)

// Condition returns the header with which req asks the upstream whether the
// answer still holds (RFC 9111, section 4.3.1): a copy of the request's own and
// the answer's validator. It is nil where that cannot be asked: req is no GET,
// has preconditions of its own, whose 304 would be the caller's, or the answer
// has no validator. A Last-Modified counts as one only if it is a second older
// than the answer: of two changes within a second it tells nothing (RFC 9110,
// section 8.8.2.2).
func (a *Answer) Condition(req *http.Request) http.Header {
	if !isGet(req) || a.entry.status != http.StatusOK {
		return nil
	}
	h := canonical(req.Header)
	if len(h["If-None-Match"]) > 0 || len(h["If-Modified-Since"]) > 0 {
		return nil
	}
	var name, value string
	if a.entry.etag != "" {
		name, value = "If-None-Match", a.entry.etag
	} else {
		modified, err := http.ParseTime(a.entry.line("Last-Modified"))
		made, err2 := http.ParseTime(a.entry.line("Date"))
		if err != nil || err2 != nil || made.Sub(modified) < time.Second {
			return nil
		}
		name, value = "If-Modified-Since", a.entry.line("Last-Modified")
	}
	out := maps.Clone(req.Header)
	if out == nil {
		out = http.Header{}
	}
	out[name] = []string{value}
	return out
}

// Confirm makes the response for the caller of req out of the answer and of
// resp, the 304 that came because of its Condition, and refreshes what is
// stored (RFC 9111, section 4.3.4). The 304's body remains the caller's to
// close.
func (c *Cache) Confirm(req *http.Request, a *Answer, resp *http.Response, now time.Time) *http.Response {
	c.ready()
	e := c.refresh(req, resp, now)
	if e == nil || e.etag != a.entry.etag {
		// It is not refreshed, because the 304 does not say well enough which
		// answer it means, or forbids it. It came for this one all the same.
		e = a.entry
	}
	age := e.fresh.ageAt(now)
	confirmed := &Answer{Age: age, TTL: e.fresh.lifetime - age, StoredAt: e.fresh.arrived, entry: e, wasStale: a.TTL <= 0}
	out := confirmed.Response(req, Outcome{Attempted: true, Status: resp.StatusCode})
	if cookies := canonical(resp.Header)["Set-Cookie"]; len(cookies) > 0 {
		out.Header["Set-Cookie"] = cookies // of this exchange, not of the stored one
	}
	out.TLS = resp.TLS
	return out
}
