package fallbackcache

import (
	"net/http"
	"time"
)

// Keep is told of a response to req that arrived at now. If the rules allow
// it to be stored, it returns a shallow copy of resp whose body is stored
// while the caller reads it, and complete only at io.EOF, or if it is closed
// after all of its Content-Length has been read; otherwise resp itself, untouched. What the caller sees is the same either way: status,
// fields, bytes, errors and trailers. A 304 to a request that the caller made
// conditional refreshes what is stored, and so does the answer to a HEAD, or it
// tells that what is stored has changed.
//
// The response must be the one the base transport returned, with the Request
// it sets: credentials that the base added make an answer not storable. The
// caller must not change req before the response's body is closed, as
// [http.RoundTripper] demands.
//
// What was changed while the response was on its way is for [Cache.KeepAnd] to
// see; Keep looks at the time between headers and end of the body only.
//
// No failure removes anything. What does, besides newer answers: a good
// response that forbids storing or reuse, and 401 or 403.
func (c *Cache) Keep(req *http.Request, resp *http.Response, now time.Time) *http.Response {
	return c.KeepAnd(req, resp, Stamp{}, now, nil)
}

// keep is Keep for a flight, which may be nil.
func (c *Cache) keep(req *http.Request, resp *http.Response, asked Stamp, now time.Time, f *Flight) (*http.Response, Fate) {
	if resp == nil || resp.Body == nil {
		return resp, Uncacheable
	}
	if req.Method == http.MethodHead {
		c.hear(req, resp, asked, now)
		return resp, Uncacheable
	}
	if !isGet(req) {
		return resp, Uncacheable
	}
	if resp.StatusCode == http.StatusNotModified {
		if c.refresh(req, resp, asked, now) == nil {
			return resp, Uncacheable
		}
		return resp, Stored
	}
	class := classOf(resp.StatusCode)
	if class == nothing {
		return resp, Uncacheable
	}
	c.ready()
	if cc := readResponse(resp.Header); cc.noStore && !cc.mustUnderstand && !c.mayHold(req) {
		return resp, Forbidden // the most usual one of those that are not stored, at the least cost
	}
	h := canonical(resp.Header)
	v := c.shareable(h, judge(class, h, now))
	if !v.keep && !v.remove {
		return resp, v.fate
	}
	if v.remove && !c.mayHold(req) {
		return resp, Forbidden
	}
	uri, ok := plain(req)
	if !ok {
		return resp, ByRequest
	}
	asked = c.since(asked, req)
	rh := canonical(req.Header)
	if len(rh["Range"]) > 0 || readRequest(rh).noStore {
		return resp, ByRequest
	}
	if !c.sameSender(req, resp.Request, rh) {
		return resp, OtherSender
	}
	who := c.who(req, rh)
	over := fitting(c.find(uri, who), rh)
	if v.remove {
		if len(over) > 0 {
			c.remove(uri, who, over)
		}
		return resp, Forbidden
	}
	switch {
	case !sameSelection(v.vary, rh, resp.Request):
		return resp, OtherSender
	case unbounded(resp):
		return resp, Incomplete
	case resp.ContentLength > c.maxObject():
		return resp, TooLarge
	}
	e := c.newEntry(uri, who, rh, resp, h, v)
	if resp.Body == http.NoBody {
		if resp.ContentLength > 0 || len(resp.Trailer) > 0 {
			return resp, Incomplete
		}
		e.complete(nil)
		fate := c.put(e, over, asked)
		if f != nil {
			f.forSome, f.crossed = v.forSome(), fate == Superseded
		}
		return resp, fate
	}
	out, r := record(c, e, over, asked, resp, c.maxObject())
	if f != nil && v.forSome() {
		r.ride(f)
	}
	return out, pending
}

// plain tells whether a GET is one whose answers depend on its URI and fields
// alone, and returns the URI's key. One with a body (a search, say) is not.
func plain(req *http.Request) (uri string, ok bool) {
	if withBody(req) {
		return "", false
	}
	return target(req)
}

func withBody(req *http.Request) bool {
	return req.Body != nil && req.Body != http.NoBody || req.ContentLength > 0
}

func isGet(req *http.Request) bool { return req.Method == http.MethodGet || req.Method == "" }

// fitting returns the entries that a request with header h selects.
func fitting(variants []*entry, h http.Header) []*entry {
	var out []*entry
	for _, e := range variants {
		if fits(e.vary, h) {
			out = append(out, e)
		}
	}
	return out
}

// sameSelection tells whether the request that went out had the same values
// in the fields that Vary names as the caller's, by which the answer will be
// found again.
func sameSelection(names []string, h http.Header, sent *http.Request) bool {
	if sent == nil || len(names) == 0 {
		return true
	}
	out := canonical(sent.Header)
	for _, name := range names {
		mine, given := combined(h[name])
		sent, present := combined(out[name])
		if mine != sent || given != present {
			return false
		}
	}
	return true
}

// unbounded tells of a body that ends when the connection does: whether it is
// complete can then not be seen, and a killed server ends it just the same.
// One that was compressed has a length and a checksum of its own.
func unbounded(resp *http.Response) bool {
	return resp.Close && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && resp.ProtoMajor < 2 && !resp.Uncompressed
}
