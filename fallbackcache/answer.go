package fallbackcache

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Answer is a stored answer that may be given. It stays valid whatever
// happens to the cache, and is safe for concurrent use.
type Answer struct {
	// Age is the time since the origin made or confirmed the answer, as far
	// as it can be told (RFC 9111, section 4.2.3).
	Age time.Duration
	// TTL is how long the answer stays fresh; negative or zero when it is
	// stale, by so much.
	TTL time.Duration
	// StoredAt is when the answer arrived, or was last confirmed.
	StoredAt time.Time
	// Servable is whether it may be given if the upstream cannot answer.
	Servable bool
	// Immediate is whether it may be given without asking the upstream: it is
	// fresh, or not older than the origin's stale-while-revalidate allows (RFC
	// 5861, section 3). Then TTL is negative or zero, and the upstream is to be
	// asked meanwhile.
	Immediate bool

	entry     *entry
	counts    *counters // nil: it is counted elsewhere
	anew      bool      // the request wants none of it
	wasStale  bool      // when it was asked about, though it has been confirmed since
	collapsed bool      // another call brought it
}

// Outcome says what was tried before an answer is given.
type Outcome struct {
	// Attempted is whether the upstream was asked at all.
	Attempted bool
	// Status it answered with; 0 if it did not answer.
	Status int
}

// Response makes the response for the caller: the stored status, fields and
// body, Age, and a Cache-Status that says what happened (RFC 9211). A HEAD
// gets no body; preconditions of the request (If-None-Match,
// If-Modified-Since) may make it a 304. The header is the caller's own; the
// body is read from the stored bytes without a copy. TLS is nil: this answer
// came over no connection.
func (a *Answer) Response(req *http.Request, outcome Outcome) *http.Response {
	e := a.entry
	if a.counts != nil {
		a.counts.given(a.TTL > 0)
	}
	h, spare := e.header(2)
	spare[0] = strconv.FormatInt(int64(a.Age/time.Second), 10)
	h["Age"] = spare[0:1:1]
	spare[1] = a.cacheStatus(outcome)
	if earlier := h["Cache-Status"]; earlier != nil {
		h["Cache-Status"] = append(earlier, spare[1]) // ours is nearest to the caller, so last
	} else {
		h["Cache-Status"] = spare[1:2:2]
	}
	resp := &http.Response{
		Status:        e.statusText,
		StatusCode:    e.status,
		Proto:         e.proto,
		ProtoMajor:    e.major,
		ProtoMinor:    e.minor,
		Header:        h,
		Body:          http.NoBody,
		ContentLength: int64(len(e.body)),
		Uncompressed:  e.decoded,
		Request:       req,
	}
	switch {
	case e.status/100 == 2 && unchanged(canonical(req.Header), e):
		resp.StatusCode = http.StatusNotModified
		resp.Status = "304 " + http.StatusText(http.StatusNotModified)
		resp.ContentLength = 0
		for _, name := range notIn304 {
			delete(h, name)
		}
	case req.Method != http.MethodHead && len(e.body) > 0:
		b := new(body)
		b.Reader.Reset(e.body)
		resp.Body = b
	}
	return resp
}

// notIn304 describes a body that a 304 has not (RFC 9110, section 15.4.5).
var notIn304 = [...]string{"Content-Length", "Content-Type", "Content-Encoding", "Content-Language"}

// cacheStatus writes the member of RFC 9211. The answer was given without
// asking the upstream (hit), or after asking because it was stale (fwd=stale);
// what is fresh was asked for all the same only because we are a fallback
// (fwd=bypass). Or it is that of another call under way (collapsed).
func (a *Answer) cacheStatus(outcome Outcome) string {
	text := make([]byte, 0, 64)
	text = append(text, "resagent; "...)
	switch {
	case a.collapsed && a.wasStale:
		text = append(text, "fwd=stale; collapsed"...)
	case a.collapsed:
		text = append(text, "fwd=miss; collapsed"...)
	case !outcome.Attempted:
		text = append(text, "hit"...)
	case a.TTL > 0 && !a.wasStale:
		text = append(text, "fwd=bypass"...)
	default:
		text = append(text, "fwd=stale"...)
	}
	if outcome.Attempted && outcome.Status != 0 {
		text = append(text, "; fwd-status="...)
		text = strconv.AppendInt(text, int64(outcome.Status), 10)
	}
	text = append(text, "; ttl="...)
	text = strconv.AppendInt(text, int64(a.TTL/time.Second), 10)
	return string(text)
}

// unchanged evaluates the caller's preconditions against a stored answer (RFC
// 9111, section 4.3.2). If-None-Match goes before If-Modified-Since.
func unchanged(h http.Header, e *entry) bool {
	if tags := h["If-None-Match"]; len(tags) > 0 {
		for _, line := range tags {
			if len(tags) == 1 && strings.Trim(line, " \t") == "*" || matches(line, e.etag) {
				return true
			}
		}
		return false
	}
	since, ok := date(h, "If-Modified-Since")
	if !ok {
		return false
	}
	for _, name := range [...]string{"Last-Modified", "Date"} {
		if line := e.line(name); line != "" {
			t, ok := parseDate(line)
			return ok && !t.After(since)
		}
	}
	return !e.fresh.arrived.After(since)
}

// matches looks for an entity tag in a line of If-None-Match, by the weak
// comparison (RFC 9110, section 8.8.3.2).
func matches(line, tag string) bool {
	for {
		line = strings.TrimLeft(line, ", \t")
		if line == "" {
			return false
		}
		opaque := weak(line)
		if opaque == "" || opaque[0] != '"' {
			return false // not a list of tags: nothing after it can be trusted
		}
		inner, rest, closed := strings.Cut(opaque[1:], `"`)
		if !closed {
			return false
		}
		if opaque[:len(inner)+2] == weak(tag) {
			return true
		}
		line = rest
	}
}

func weak(tag string) string {
	if len(tag) > 2 && tag[:2] == "W/" {
		return tag[2:]
	}
	return tag
}

// body reads the stored bytes, which are shared by all readers.
type body struct{ bytes.Reader }

// Close implements io.Closer. There is nothing to close.
func (*body) Close() error { return nil }
