package fallbackcache

import (
	"net/http"
	"testing"
	"time"
)

// RFC 9111, sections 3.2 and 4.3.4: a 304 to the caller's own conditional
// request.
func TestRefresh(t *testing.T) {
	type fields = []string
	stored := fields{`ETag: "v1"`, "Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT", "Cache-Control: max-age=60", "X-Old: 1", "Content-Type: text/plain"}
	for _, c := range []struct {
		name   string
		stored fields
		asked  fields
		said   fields
		want   string // of an answer at 61 s, fresh only
	}{
		{"same tag", stored, nil, fields{`ETag: "v1"`}, "good"},
		{"another tag", stored, nil, fields{`ETag: "v2"`}, none},
		{"weak against strong", stored, nil, fields{`ETag: W/"v1"`}, "good"},
		{"strong against weak", fields{`ETag: W/"v1"`, "Cache-Control: max-age=60"}, nil, fields{`ETag: "v1"`}, none},
		{"another weak one", stored, nil, fields{`ETag: W/"v2"`}, none},
		{"no tag but stored has one", stored, nil, fields{"Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT"}, "good"},
		{"no tag, and another date", stored, nil, fields{"Last-Modified: Mon, 23 Nov 2026 12:00:00 GMT"}, none},
		{"no validator but stored has one", stored, nil, nil, none},
		{"date alone", fields{"Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT", "Cache-Control: max-age=60"}, nil, fields{"Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT"}, "good"},
		{"another date", fields{"Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT", "Cache-Control: max-age=60"}, nil, fields{"Last-Modified: Mon, 23 Nov 2026 12:00:00 GMT"}, none},
		{"no validator", fields{"Cache-Control: max-age=60"}, nil, nil, none},
		{"another user", stored, fields{"Authorization: bob"}, fields{`ETag: "v1"`}, none},
		{"with a range", stored, fields{"Range: bytes=0-1"}, fields{`ETag: "v1"`}, none},
		{"with no-store", stored, fields{"Cache-Control: no-store"}, fields{`ETag: "v1"`}, none},
		{"it forbids storing", stored, nil, fields{`ETag: "v1"`, "Cache-Control: no-store"}, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			keep(t, cache, start, get(t, page), 200, "good", c.stored...)
			req := get(t, page, append(c.asked, `If-None-Match: "v1"`)...)
			resp := response(t, req, 304, "", c.said...)
			if got := cache.Keep(req, resp, start.Add(30*time.Second)); got != resp {
				t.Error("the 304 was not handed on as it came")
			}
			if got := found(t, cache, start.Add(61*time.Second), 0, get(t, page)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			check(t, &cache.memory)
		})
	}
}

func TestRefreshedFields(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "good", `ETag: "v1"`, "X-Old: 1", "X-Both: 1", "X-Hop: 0", "Content-Type: text/plain", "Content-Encoding: identity")
	req := get(t, page, `If-None-Match: "v1"`)
	cache.Keep(req, response(t, req, 304, "", `ETag: "v1"`, "X-Both: 2", "X-New: 3", "Content-Length: 99", "Content-Encoding: br",
		"Content-Range: bytes 0-1/2", "Content-Type: text/html", "Transfer-Encoding: chunked", "Set-Cookie: a=b", "Connection: X-Hop", "X-Hop: 1"), start.Add(time.Minute))
	resp := answer(t, cache, get(t, page), start.Add(time.Minute), Outcome{})
	want := header(t, `ETag: "v1"`, "X-Old: 1", "X-Hop: 0", "Date: "+start.Add(time.Minute).Format(http.TimeFormat), "X-Both: 2", "X-New: 3", "Content-Type: text/html", "Content-Encoding: identity",
		"Content-Length: 4", "Age: 0", "Cache-Status: resagent; hit; ttl=0")
	for name := range want {
		if resp.Header.Get(name) != want.Get(name) {
			t.Errorf("%s: %q, want %q", name, resp.Header.Get(name), want.Get(name))
		}
	}
	for name := range resp.Header {
		if want[name] == nil {
			t.Errorf("%s: %q came with the 304", name, resp.Header[name])
		}
	}
	if got := drain(t, resp); resp.StatusCode != 200 || got != "good" {
		t.Errorf("%d %q, want 200 good", resp.StatusCode, got)
	}
}
