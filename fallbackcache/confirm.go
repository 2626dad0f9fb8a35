package fallbackcache

import (
	"maps"
	"net/http"
	"strings"
	"time"
)

// Condition returns the header with which req asks the upstream whether the
// answer still holds (RFC 9111, section 4.3.1): a copy of the request's own and
// the answer's validators. It is nil where that cannot be asked: req is no GET,
// wants none of what is stored, has preconditions of its own, whose 304 would
// be the caller's, or the answer has no validator. A Last-Modified counts as
// one only if it is a second older than the answer: of two changes within a
// second it tells nothing (RFC 9110, section 8.8.2.2).
func (a *Answer) Condition(req *http.Request) http.Header {
	if !isGet(req) || a.anew || a.entry.status != http.StatusOK {
		return nil
	}
	h := canonical(req.Header)
	if conditional(h) {
		return nil
	}
	tag, modified := a.entry.etag, a.entry.line("Last-Modified")
	if !askable(tag) {
		tag = ""
	}
	if at, ok := parseDate(modified); ok {
		made, ok := parseDate(a.entry.line("Date"))
		if !ok || made.Sub(at) < time.Second {
			modified = ""
		}
	}
	if tag == "" && modified == "" {
		return nil
	}
	out := maps.Clone(req.Header)
	if out == nil {
		out = http.Header{}
	}
	if tag != "" {
		out["If-None-Match"] = []string{tag}
	}
	if modified != "" { // beside the tag, for those who do not know tags
		out["If-Modified-Since"] = []string{modified}
	}
	return out
}

// maxTag bounds the entity tag that is sent, in bytes: a server that sends longer
// ones may refuse the request that has one.
const maxTag = 1 << 10

// askable tells whether an ETag can stand in If-None-Match and mean itself: one
// entity-tag (RFC 9110, section 8.8.3), or, as servers send them, one without its
// quotes. "*" would be unchanged for ever, and a list is as good as its worst.
func askable(tag string) bool {
	if tag == "" || len(tag) > maxTag {
		return false
	}
	if opaque := weak(tag); opaque[0] == '"' {
		return len(opaque) >= 2 && strings.IndexByte(opaque[1:], '"') == len(opaque)-2
	}
	return tag != "*" && !strings.ContainsAny(tag, "\", \t")
}

// conditional tells whether a request asks by itself whether something changed.
func conditional(h http.Header) bool {
	return len(h["If-None-Match"]) > 0 || len(h["If-Modified-Since"]) > 0
}

// Confirm makes the response for the caller of req out of the answer and of
// resp, the 304 that came because of its Condition, and refreshes what is
// stored (RFC 9111, section 4.3.4). The 304's body remains the caller's to
// close.
func (c *Cache) Confirm(req *http.Request, a *Answer, resp *http.Response, asked Stamp, now time.Time) *http.Response {
	out, _ := c.confirm(req, a, resp, asked, now)
	return out
}

func (c *Cache) confirm(req *http.Request, a *Answer, resp *http.Response, asked Stamp, now time.Time) (*http.Response, *entry) {
	c.ready()
	e := c.refresh(req, resp, asked, now)
	if e == nil || weak(e.etag) != weak(a.entry.etag) {
		// The 304 does not say well enough which answer it means, to refresh
		// what is stored. It came for this one all the same.
		e = a.entry
	}
	c.counts.confirmed.Add(1)
	confirmed := e.answer(now)
	confirmed.wasStale = a.TTL <= 0
	out := confirmed.Response(req, Outcome{Attempted: true, Status: resp.StatusCode})
	h := canonical(resp.Header)
	for _, name := range ofExchange {
		if lines := h[name]; len(lines) > 0 {
			out.Header[name] = lines
		}
	}
	for _, name := range e.control().without { // they may be given now that it was asked about (RFC 9111, section 5.2.2.4)
		name = http.CanonicalHeaderKey(name)
		if lines := h[name]; len(lines) > 0 && !notReplayed[name] && !notRefreshed[name] {
			out.Header[name] = lines
		}
	}
	out.TLS = resp.TLS
	return out, e
}

// ofExchange are fields of a 304 that are not stored, and are this caller's.
var ofExchange = [...]string{"Set-Cookie", "Set-Cookie2", "Authentication-Info"}
