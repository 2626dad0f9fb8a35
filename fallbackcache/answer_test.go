package fallbackcache

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func answer(t *testing.T, c *Cache, req *http.Request, now time.Time, outcome Outcome) *http.Response {
	t.Helper()
	a, ok := c.Find(req, time.Hour, now)
	if !ok {
		t.Fatal("nothing is found")
	}
	return a.Response(req, outcome)
}

// RFC 9211, as DESIGN section 8 has it.
func TestCacheStatus(t *testing.T) {
	for _, c := range []struct {
		age     time.Duration
		outcome Outcome
		want    string
	}{
		{180 * time.Second, Outcome{}, "resagent; hit; ttl=-120"},
		{10 * time.Second, Outcome{}, "resagent; hit; ttl=50"},
		{180 * time.Second, Outcome{Attempted: true, Status: 503}, "resagent; fwd=stale; fwd-status=503; ttl=-120"},
		{180 * time.Second, Outcome{Attempted: true}, "resagent; fwd=stale; ttl=-120"},
		{60 * time.Second, Outcome{Attempted: true}, "resagent; fwd=stale; ttl=0"},
		{10 * time.Second, Outcome{Attempted: true, Status: 500}, "resagent; fwd=bypass; fwd-status=500; ttl=50"},
	} {
		cache := new(Cache)
		keep(t, cache, start, get(t, page), 200, "x", "Cache-Control: max-age=60")
		resp := answer(t, cache, get(t, page), start.Add(c.age), c.outcome)
		if got := resp.Header.Values("Cache-Status"); !slices.Equal(got, []string{c.want}) {
			t.Errorf("aged %v, %+v: %q, want %q", c.age, c.outcome, got, c.want)
		}
	}
}

func TestCacheStatusOfOthersStaysBeforeOurs(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "x", "Cache-Status: cdn; hit")
	for range 2 { // what one caller gets must not grow into what the next gets
		resp := answer(t, cache, get(t, page), start, Outcome{})
		if got, want := resp.Header.Values("Cache-Status"), []string{"cdn; hit", "resagent; hit; ttl=0"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAge(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "x", "Age: 100", "Cache-Control: max-age=60")
	now := start.Add(30*time.Second + 900*time.Millisecond)
	if got := answer(t, cache, get(t, page), now, Outcome{}).Header.Values("Age"); !slices.Equal(got, []string{"130"}) {
		t.Errorf("Age %q, want 130", got)
	}
	a, _ := cache.Find(get(t, page), time.Hour, now)
	if a.Age != 130*time.Second+900*time.Millisecond || a.TTL != 60*time.Second-a.Age || !a.StoredAt.Equal(start) {
		t.Errorf("Age %v, TTL %v, StoredAt %v", a.Age, a.TTL, a.StoredAt)
	}
}

// RFC 9110, section 7.6.1; RFC 9111, section 3.1.
func TestFields(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "body",
		"Content-Type: text/plain", "X-Twice: a", "X-Twice: b", "Link: </a>; rel=next",
		"Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Connection: close", "Te: trailers",
		"Trailer: X-T", "Transfer-Encoding: chunked", "Upgrade: h2c", "Proxy-Authenticate: Basic",
		"Proxy-Authentication-Info: x", "Authentication-Info: x", "Set-Cookie: session=alice", "Set-Cookie2: x",
		`Cache-Control: max-age=60, no-cache="X-Nonce, x-other"`, "X-Nonce: 1", "X-Other: 2", "Age: 3")
	resp := answer(t, cache, get(t, page), start, Outcome{})
	want := header(t, "Content-Type: text/plain", "X-Twice: a", "X-Twice: b", "Link: </a>; rel=next",
		`Cache-Control: max-age=60, no-cache="X-Nonce, x-other"`, "Age: 3", "Content-Length: 4",
		"Date: "+start.Format(http.TimeFormat), "Cache-Status: resagent; hit; ttl=57")
	for name := range resp.Header {
		if !slices.Equal(resp.Header[name], want[name]) {
			t.Errorf("%s: %q, want %q", name, resp.Header[name], want[name])
		}
	}
	for name := range want {
		if resp.Header[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestResponse(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 404, "no such page", "Content-Type: text/plain")
	req := get(t, page)
	resp := answer(t, cache, req, start, Outcome{})
	if resp.Request != req || resp.StatusCode != 404 || resp.Proto != "HTTP/1.1" || resp.ContentLength != 12 {
		t.Errorf("got %d %s, length %d, request %p, want 404 HTTP/1.1, 12 and %p", resp.StatusCode, resp.Proto, resp.ContentLength, resp.Request, req)
	}
	if got := drain(t, resp); got != "no such page" {
		t.Errorf("body %q", got)
	}
}

func TestCallersDoNotShareHeaders(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "x", "X-A: 1", "X-B: 2")
	first := answer(t, cache, get(t, page), start, Outcome{})
	first.Header.Add("X-A", "changed")
	first.Header["X-B"][0] = "changed"
	second := answer(t, cache, get(t, page), start, Outcome{})
	if second.Header.Get("X-A") != "1" || second.Header.Get("X-B") != "2" || len(second.Header["X-A"]) != 1 {
		t.Errorf("one caller's changes reached another: %v", second.Header)
	}
	if first.Header.Get("X-B") != "changed" || first.Header.Get("Content-Length") != "1" {
		t.Errorf("a change of one field reached another field: %v", first.Header)
	}
}

// RFC 9111, section 4: a HEAD is answered from a stored GET.
func TestHead(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "body", "Content-Type: text/plain")
	resp := answer(t, cache, request(t, "HEAD", page), start, Outcome{})
	if resp.ContentLength != 4 || resp.Header.Get("Content-Length") != "4" || resp.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("length %d, header %v", resp.ContentLength, resp.Header)
	}
	if got := drain(t, resp); got != "" {
		t.Errorf("a HEAD got the body %q", got)
	}
}

func TestNoContent(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 204, "", "Cache-Control: max-age=60")
	resp := answer(t, cache, get(t, page), start, Outcome{})
	if resp.StatusCode != 204 || resp.Header["Content-Length"] != nil || resp.Body != http.NoBody {
		t.Errorf("got %d with %v", resp.StatusCode, resp.Header)
	}
}

// RFC 9111, section 4.3.2: the caller's preconditions, on the stored answer.
func TestPreconditions(t *testing.T) {
	type fields = []string
	at := func(d time.Duration) string { return start.Add(d).Format(http.TimeFormat) }
	tagged := fields{`ETag: "v1"`, "Last-Modified: " + at(-time.Hour), "Content-Type: text/plain"}
	for _, c := range []struct {
		name   string
		status int
		said   fields
		asked  fields
		want   int
	}{
		{"same tag", 200, tagged, fields{`If-None-Match: "v1"`}, 304},
		{"another tag", 200, tagged, fields{`If-None-Match: "v2"`}, 200},
		{"weak against strong", 200, tagged, fields{`If-None-Match: W/"v1"`}, 304},
		{"strong against weak", 200, fields{`ETag: W/"v1"`}, fields{`If-None-Match: "v1"`}, 304},
		{"in a list", 200, tagged, fields{`If-None-Match: "v0", "v,1", W/"v1"`}, 304},
		{"on a second line", 200, tagged, fields{`If-None-Match: "v0"`, `If-None-Match: "v1"`}, 304},
		{"inside another tag", 200, tagged, fields{`If-None-Match: "a, v1, b"`}, 200},
		{"any", 200, tagged, fields{"If-None-Match: *"}, 304},
		{"any, in a list", 200, tagged, fields{`If-None-Match: "v2", *`}, 200},
		{"without quotes", 200, tagged, fields{"If-None-Match: v1"}, 200},
		{"never closed", 200, tagged, fields{`If-None-Match: "v1`}, 200},
		{"no tag stored", 200, nil, fields{`If-None-Match: ""`}, 200},
		{"not modified since", 200, tagged, fields{"If-Modified-Since: " + at(-time.Hour)}, 304},
		{"modified since", 200, tagged, fields{"If-Modified-Since: " + at(-2*time.Hour)}, 200},
		{"the tag goes before the date", 200, tagged, fields{`If-None-Match: "v2"`, "If-Modified-Since: " + at(0)}, 200},
		{"no such date", 200, tagged, fields{"If-Modified-Since: yesterday"}, 200},
		{"Date in place of Last-Modified", 200, fields{"Date: " + at(0)}, fields{"If-Modified-Since: " + at(0)}, 304},
		{"arrival in place of Date", 200, nil, fields{"If-Modified-Since: " + at(-time.Second)}, 200},
		{"a date in other letters", 200, tagged, fields{"If-Modified-Since: " + strings.ToUpper(at(0))}, 304},
		{"two dates", 200, tagged, fields{"If-Modified-Since: " + at(0), "If-Modified-Since: " + at(0)}, 200},
		{"not for a 404", 404, tagged, fields{`If-None-Match: "v1"`}, 404},
		{"not for a redirect", 301, tagged, fields{"If-None-Match: *"}, 301},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			keep(t, cache, start, get(t, page), c.status, "body", append(c.said, "Cache-Control: max-age=60")...)
			resp := answer(t, cache, get(t, page, c.asked...), start, Outcome{})
			if resp.StatusCode != c.want {
				t.Fatalf("status %d, want %d", resp.StatusCode, c.want)
			}
			if c.want != 304 {
				return
			}
			if resp.ContentLength != 0 || resp.Header["Content-Length"] != nil || resp.Header["Content-Type"] != nil || drain(t, resp) != "" {
				t.Errorf("a 304 describes a body: length %d, %v", resp.ContentLength, resp.Header)
			}
			if resp.Header.Get("Cache-Control") == "" || resp.Header.Get("Cache-Status") == "" {
				t.Errorf("a 304 lacks fields: %v", resp.Header)
			}
		})
	}
}

func TestBodyIsNotCopied(t *testing.T) {
	cache := new(Cache)
	body := strings.Repeat("x", 1<<20)
	keep(t, cache, start, get(t, page), 200, body)
	req := get(t, page)
	p := make([]byte, 32<<10)
	bytes := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			a, _ := cache.Find(req, time.Hour, start)
			r := a.Response(req, Outcome{}).Body
			for {
				if _, err := r.Read(p); err == io.EOF {
					break
				}
			}
		}
	}).AllocedBytesPerOp()
	if bytes > 4<<10 {
		t.Errorf("a hit of 1 MiB allocates %d bytes", bytes)
	}
}
