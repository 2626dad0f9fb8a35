package fallbackcache

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// RFC 5861, section 3; RFC 9111, sections 4.2 and 5.2.1. What may be given
// without asking the upstream, of an answer that is fresh for 60 s.
func TestImmediate(t *testing.T) {
	type fields = []string
	const hour = time.Hour
	swr := "Cache-Control: max-age=60, stale-while-revalidate=10"
	for _, c := range []struct {
		name     string
		said     string
		after    time.Duration
		method   string
		again    fields
		maxStale time.Duration
		want     bool
	}{
		{name: "9111 4.2 fresh", said: swr, after: 59 * time.Second, want: true},
		{name: "9111 4.2 fresh, a HEAD", said: swr, after: 59 * time.Second, method: "HEAD", want: true},
		{name: "9111 4.2 stale", said: "Cache-Control: max-age=60", after: 60 * time.Second, maxStale: hour},
		{name: "9111 5.2.1.1 max-age is not undone by stale-if-error", said: "Cache-Control: max-age=60", after: 30 * time.Second, again: fields{"Cache-Control: max-age=0, stale-if-error=60"}, maxStale: hour},
		{name: "5861 3 within", said: swr, after: 70 * time.Second, want: true},
		{name: "5861 3 beyond", said: swr, after: 71 * time.Second, maxStale: hour},
		{name: "5861 3 the operator bounds it", said: swr, after: 66 * time.Second, maxStale: 5 * time.Second},
		{name: "5861 3 the operator does not extend it", said: swr, after: 80 * time.Second, maxStale: hour},
		{name: "5861 3 zero", said: "Cache-Control: max-age=60, stale-while-revalidate=0", after: 60 * time.Second, maxStale: hour},
		{name: "5861 3 nonsense", said: "Cache-Control: max-age=60, stale-while-revalidate=soon", after: 61 * time.Second, maxStale: hour},
		{name: "5861 3 twice unlike", said: "Cache-Control: max-age=60, stale-while-revalidate=10, stale-while-revalidate=20", after: 61 * time.Second},
		{name: "5861 3 without freshness", said: "Cache-Control: stale-while-revalidate=10", after: 9 * time.Second, want: true},
		{name: "5861 3 stale-if-error=0 is of failures", said: swr + ", stale-if-error=0", after: 65 * time.Second, want: true},
		{name: "5861 3 a HEAD brings nothing to store", said: swr, after: 65 * time.Second, method: "HEAD"},
		{name: "9111 5.2.2.2 must-revalidate", said: swr + ", must-revalidate", after: 65 * time.Second},
		{name: "9111 5.2.2.8 proxy-revalidate", said: swr + ", proxy-revalidate", after: 65 * time.Second},
		{name: "9111 5.2.2.10 s-maxage", said: swr + ", s-maxage=60", after: 65 * time.Second},
		{name: "9111 5.2.1.4 no-cache asked for", said: swr, after: 65 * time.Second, again: fields{"Cache-Control: no-cache"}},
		{name: "9111 5.4 Pragma asked for", said: swr, after: 65 * time.Second, again: fields{"Pragma: no-cache"}},
		{name: "9111 5.2.1.5 no-store asked for", said: swr, after: 65 * time.Second, again: fields{"Cache-Control: no-store"}},
		{name: "9111 5.2.1.1 max-age asked for", said: swr, after: 65 * time.Second, again: fields{"Cache-Control: max-age=600"}},
		{name: "9111 5.2.1.3 min-fresh asked for", said: swr, after: 65 * time.Second, again: fields{"Cache-Control: min-fresh=1"}},
		{name: "9111 5.2.1.2 max-stale narrows", said: swr, after: 65 * time.Second, again: fields{"Cache-Control: max-stale=4"}},
		{name: "9111 5.2.1.2 max-stale does not widen", said: "Cache-Control: max-age=60", after: 65 * time.Second, again: fields{"Cache-Control: max-stale"}, maxStale: hour},
		{name: "9110 14.2 Range", said: swr, after: 10 * time.Second, again: fields{"Range: bytes=0-1"}},
		{name: "9110 13.1.5 If-Range", said: swr, after: 10 * time.Second, again: fields{"Range: bytes=0-1", `If-Range: "v"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			keep(t, cache, start, get(t, page), 200, "good", c.said)
			method := c.method
			if method == "" {
				method = "GET"
			}
			a := cache.Look(request(t, method, page, c.again...), c.maxStale, start.Add(c.after))
			if got := a != nil && a.Immediate; got != c.want {
				t.Errorf("after %v with max_stale %v: given %v, want %v", c.after, c.maxStale, got, c.want)
			}
			if a != nil && a.Immediate && !a.Servable {
				t.Error("it may be given at once, but not on a failure")
			}
		})
	}
}

// What may not be given may be asked about, unless the request wants it anew
// (RFC 9111, sections 4.3.1 and 5.2.1.4).
func TestAskedAboutThoughNotServable(t *testing.T) {
	for said, after := range map[string]time.Duration{"max-age=60, must-revalidate": 61 * time.Second, "no-cache, stale-while-revalidate=60": 0} {
		for control, asks := range map[string]bool{"": true, "max-age=0": true, "no-cache": false, "no-store": false} {
			cache := new(Cache)
			keep(t, cache, start, get(t, page), 200, "good", `ETag: "v"`, "Cache-Control: "+said)
			req := get(t, page)
			if control != "" {
				req.Header.Set("Cache-Control", control)
			}
			a := cache.Look(req, time.Hour, start.Add(after))
			if a == nil || a.Servable || a.Immediate {
				t.Fatalf("%s, asked with %q: %+v, want an answer that is not to be given", said, control, a)
			}
			if got := a.Condition(req) != nil; got != asks {
				t.Errorf("%s, asked with %q: asked about %v, want %v", said, control, got, asks)
			}
		}
	}
}

// RFC 9111, section 4.3.5: what the answer to a HEAD says of a stored one.
func TestHearHead(t *testing.T) {
	type fields = []string
	stored := fields{`ETag: "v1"`, "Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT", "Cache-Control: max-age=60, stale-if-error=3600", "X-Old: 1"}
	for _, c := range []struct {
		name   string
		asked  fields
		status int // 0: 200
		said   fields
		at30   string // what is fresh right after the HEAD
		at61   string // what is fresh a minute after it was stored
		stale  string // what is given on a failure
	}{
		{name: "the same", said: fields{`ETag: "v1"`, "Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT", "Content-Length: 4", "X-Old: 2"}, at30: "good", at61: "good", stale: "good"},
		{name: "it says nothing", at30: "good", at61: "good", stale: "good"},
		{name: "another tag", said: fields{`ETag: "v2"`}, at30: none, at61: none, stale: "good"},
		{name: "another date", said: fields{"Last-Modified: Mon, 23 Nov 2026 12:00:00 GMT"}, at30: none, at61: none, stale: "good"},
		{name: "another length", said: fields{`ETag: "v1"`, "Content-Length: 5"}, at30: none, at61: none, stale: "good"},
		{name: "it forbids storing", said: fields{"Cache-Control: no-store"}, at30: none, at61: none, stale: none},
		{name: "not found", status: 404, at30: "good", at61: none, stale: "good"},
		{name: "a failure", status: 503, at30: "good", at61: none, stale: "good"},
		{name: "another user's", asked: fields{"Authorization: bob"}, said: fields{`ETag: "v2"`}, at30: "good", at61: none, stale: "good"},
		{name: "another variant's", asked: fields{"Accept: text/plain"}, said: fields{`ETag: "v2"`}, at30: "good", at61: none, stale: "good"},
		{name: "of a range", asked: fields{"Range: bytes=0-1"}, said: fields{`ETag: "v2"`}, at30: "good", at61: none, stale: "good"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			keep(t, cache, start, get(t, page), 200, "good", append(stored, "Vary: Accept")...)
			req := request(t, "HEAD", page, c.asked...)
			status := c.status
			if status == 0 {
				status = 200
			}
			resp := response(t, req, status, "", c.said...)
			if got := cache.Keep(req, resp, start.Add(30*time.Second)); got != resp {
				t.Error("the answer to the HEAD was not handed on as it came")
			}
			fresh := func(after time.Duration) string {
				a := cache.Look(get(t, page), 0, start.Add(after))
				if a == nil || !a.Immediate {
					return none
				}
				resp := a.Response(get(t, page), Outcome{})
				want := "1"
				if slices.Contains(c.said, "X-Old: 2") {
					want = "2"
				}
				if resp.Header.Get("X-Old") != want || resp.Header.Get("Content-Length") != "4" {
					t.Errorf("after %v: %v", after, resp.Header)
				}
				return drain(t, resp)
			}
			if got := fresh(30 * time.Second); got != c.at30 {
				t.Errorf("right after: %q, want %q", got, c.at30)
			}
			if got := fresh(61 * time.Second); got != c.at61 {
				t.Errorf("after a minute: %q, want %q", got, c.at61)
			}
			if got := found(t, cache, start.Add(61*time.Second), time.Hour, get(t, page)); got != c.stale {
				t.Errorf("on a failure: %q, want %q", got, c.stale)
			}
			check(t, &cache.memory)
		})
	}
}

// RFC 9110, section 6.6.1: what is stored is dated.
func TestStoredIsDated(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "x")
	if got := answer(t, cache, get(t, page), start.Add(time.Minute), Outcome{}).Header.Values("Date"); !slices.Equal(got, []string{start.Format(http.TimeFormat)}) {
		t.Errorf("Date %q, want that of its arrival", got)
	}
}

func FuzzDate(f *testing.F) {
	for _, seed := range []string{"Mon, 23 Nov 2026 12:00:00 GMT", "Monday, 23-Nov-26 12:00:00 GMT", "Mon Nov 23 12:00:00 2026", "0", "", "mon, 23 nov 2026 12:00:00 gmt"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseDate(s)
		if !ok {
			return
		}
		zone := s[max(0, len(s)-3):] // whose case alone net/http heeds
		if lenient, err := http.ParseTime(strings.TrimSuffix(s, zone) + strings.ToUpper(zone)); err != nil || !lenient.Equal(got) {
			t.Fatalf("%q is %v, net/http says %v, %v", s, got, lenient, err)
		}
		if strings.TrimSpace(s) != s {
			t.Fatalf("%q is a date", s)
		}
	})
}

// s-maxage of a shared cache makes nothing fresh that must be asked about.
func TestSharedNoCache(t *testing.T) {
	cache := &Cache{Shared: true}
	keep(t, cache, start, get(t, page), 200, "good", "Cache-Control: public, no-cache, s-maxage=60", `ETag: "v"`)
	if a := cache.Look(get(t, page), time.Hour, start); a == nil || a.Immediate || a.Servable || a.Condition(get(t, page)) == nil {
		t.Errorf("%+v, want one that is asked about and not given", a)
	}
}

// What the origin allows is known of an answer from the disk too.
func TestImmediateFromDisk(t *testing.T) {
	dir := t.TempDir()
	first := &Cache{Dir: dir}
	keep(t, first, start, get(t, page), 200, "good", "Cache-Control: max-age=60, stale-while-revalidate=10, stale-if-error=20")
	second := &Cache{Dir: dir}
	for after, want := range map[time.Duration][2]bool{59 * time.Second: {true, true}, 70 * time.Second: {true, true}, 80 * time.Second: {false, true}, 81 * time.Second: {false, false}} {
		a := second.Look(get(t, page), 0, start.Add(after))
		if a == nil || a.Immediate != want[0] || a.Servable != want[1] {
			t.Errorf("after %v: %+v, want given at once and on a failure: %v", after, a, want)
		}
	}
}
