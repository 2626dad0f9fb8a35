package fallbackcache

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// entry is one stored answer. Nothing in it changes once it is in the memory,
// so that it can be read without a lock.
type entry struct {
	uri  string
	who  audience
	vary []varied

	status       int
	statusText   string
	proto        string
	major, minor int
	fields       []field
	body         []byte
	decoded      bool // by the base transport (Response.Uncompressed)

	fresh  freshness
	etag   string
	size   int64 // what it is charged for, in bytes
	loaded bool  // from the disk: its times know no monotonic clock
}

// newEntry makes the entry of a response but for its body.
func (c *Cache) newEntry(uri string, who audience, reqHeader http.Header, resp *http.Response, h http.Header, v verdict) *entry {
	e := &entry{
		uri:        uri,
		who:        who,
		vary:       selecting(v.vary, reqHeader, c.fields),
		status:     resp.StatusCode,
		statusText: resp.Status,
		proto:      resp.Proto,
		major:      resp.ProtoMajor,
		minor:      resp.ProtoMinor,
		fields:     replayable(h, v.without),
		decoded:    resp.Uncompressed,
		fresh:      v.fresh,
		etag:       first(h, "Etag"),
	}
	if len(h["Date"]) == 0 { // RFC 9110, section 6.6.1
		e.fields = append(e.fields, field{"Date", v.fresh.arrived.UTC().Format(http.TimeFormat)})
	}
	return e
}

// complete gives the entry its body, and the length and size that go with it.
func (e *entry) complete(body []byte) {
	e.body = body
	if e.status != http.StatusNoContent {
		e.fields = append(e.fields, field{"Content-Length", strconv.Itoa(len(body))})
	}
	e.size = e.weigh()
}

// line returns the first stored line of that name, or nothing.
func (e *entry) line(name string) string {
	for _, f := range e.fields {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// control reads what the origin said of storing and reuse.
func (e *entry) control() responseControl {
	h := http.Header{}
	for _, f := range e.fields {
		if f.name == "Cache-Control" {
			h["Cache-Control"] = append(h["Cache-Control"], f.value)
		}
	}
	return readResponse(h)
}

// generated is when the origin made the answer, as far as its Date and Age
// tell; never later than its arrival, so that a clock that is ahead cannot
// hold a place for ever.
func (e *entry) generated() time.Time { return e.fresh.arrived.Add(-e.fresh.age) }

// sameVariant tells whether two entries of one URI and audience are answers
// to the same request.
func (e *entry) sameVariant(other *entry) bool { return slices.Equal(e.vary, other.vary) }

// An estimate of what Go needs around the strings and bytes of an entry: the
// entry, its group with the places in two maps and in the list, and each
// field. TestMemoryBound measures it.
const (
	entryOverhead = 1024
	fieldOverhead = 32
)

// weigh estimates the memory that the entry needs, in bytes.
func (e *entry) weigh() int64 {
	n := entryOverhead + len(e.uri) + cap(e.body) + len(e.statusText) + len(e.proto) + len(e.etag)
	for _, f := range e.fields {
		n += fieldOverhead + len(f.name) + len(f.value)
	}
	for _, v := range e.vary {
		n += fieldOverhead + 8 + len(v.name) + len(v.value)
	}
	return int64(n)
}

// header returns the stored lines as a map of the caller's own, with room for
// extra more lines in the returned slice.
func (e *entry) header(extra int) (h http.Header, spare []string) {
	h = make(http.Header, len(e.fields)+extra)
	values := make([]string, len(e.fields)+extra)
	for i := 0; i < len(e.fields); {
		name, from := e.fields[i].name, i
		for i < len(e.fields) && e.fields[i].name == name {
			values[i] = e.fields[i].value
			i++
		}
		h[name] = values[from:i:i]
	}
	return h, values[len(e.fields):]
}

// choose picks the variant for a request with header h: of those that fit,
// one with Vary before one without (an origin may forget it on its default
// answer), then the most recent (RFC 9111, section 4.1).
func choose(variants []*entry, h http.Header) *entry {
	var best *entry
	for _, e := range variants {
		if !fits(e.vary, h) {
			continue
		}
		switch {
		case best == nil,
			len(e.vary) > 0 && len(best.vary) == 0,
			(len(e.vary) > 0) == (len(best.vary) > 0) && newer(e, best):
			best = e
		}
	}
	return best
}

// ahead tells of an entry whose clock has been set back since, as it seems: it
// came long after a call that has ended now. It must not hold its place until then.
func ahead(old, e *entry) bool {
	return old.fresh.arrived.Round(0).Sub(e.fresh.arrived.Round(0)) > longestCall
}

const longestCall = time.Hour

// newer orders by generation, as far as a Date tells it, then by arrival.
func newer(a, b *entry) bool {
	if order := cmp.Compare(a.generated().Unix(), b.generated().Unix()); order != 0 {
		return order > 0
	}
	return a.fresh.arrived.After(b.fresh.arrived)
}
