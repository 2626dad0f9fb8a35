package fallbackcache

import (
	"strings"
	"testing"
	"time"
)

// RFC 9111, section 4.3.1; RFC 9110, sections 8.8.2.2 and 13.1.
func TestCondition(t *testing.T) {
	const date = "Date: Mon, 23 Nov 2026 12:00:00 GMT"
	for _, c := range []struct {
		name          string
		status        int
		stored, asked []string
		want          string
	}{
		{"tag", 200, []string{`ETag: "v"`, date, "Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT"}, nil, `If-None-Match: "v"` + "If-Modified-Since: Sun, 22 Nov 2026 12:00:00 GMT"},
		{"tag, and date of the same second", 200, []string{`ETag: "v"`, date, "Last-Modified: Mon, 23 Nov 2026 12:00:00 GMT"}, nil, `If-None-Match: "v"`},
		{"weak tag", 200, []string{`ETag: W/"v"`}, nil, `If-None-Match: W/"v"`},
		{"tag without quotes", 200, []string{`ETag: v`}, nil, `If-None-Match: v`},
		{"tag beyond ASCII", 200, []string{"ETag: \"\xff\""}, nil, "If-None-Match: \"\xff\""},
		{"empty tag", 200, []string{`ETag: ""`}, nil, `If-None-Match: ""`},
		{"any tag", 200, []string{`ETag: *`}, nil, ""},
		{"any tag, and date", 200, []string{`ETag: *`, date, "Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT"}, nil, "If-Modified-Since: Sun, 22 Nov 2026 12:00:00 GMT"},
		{"two tags", 200, []string{`ETag: "v", "w"`}, nil, ""},
		{"two tags without quotes", 200, []string{`ETag: v,w`}, nil, ""},
		{"tag that is not closed", 200, []string{`ETag: "`}, nil, ""},
		{"weak tag that is not closed", 200, []string{`ETag: W/"v`}, nil, ""},
		{"the longest tag", 200, []string{`ETag: ` + strings.Repeat("v", maxTag)}, nil, `If-None-Match: ` + strings.Repeat("v", maxTag)},
		{"a longer one", 200, []string{`ETag: ` + strings.Repeat("v", maxTag+1)}, nil, ""},
		{"date", 200, []string{date, "Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT"}, nil, "If-Modified-Since: Sun, 22 Nov 2026 12:00:00 GMT"},
		{"of the same second", 200, []string{date, "Last-Modified: Mon, 23 Nov 2026 12:00:00 GMT"}, nil, ""},
		{"dated by us", 200, []string{"Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT"}, nil, "If-Modified-Since: Sun, 22 Nov 2026 12:00:00 GMT"},
		{"of no known time", 200, []string{"Date: today", "Last-Modified: Sun, 22 Nov 2026 12:00:00 GMT"}, nil, ""},
		{"no validator", 200, []string{date}, nil, ""},
		{"no good answer", 404, []string{`ETag: "v"`}, nil, ""},
		{"the caller's own", 200, []string{`ETag: "v"`}, []string{`If-None-Match: "w"`}, ""},
		{"the caller's own date", 200, []string{`ETag: "v"`}, []string{"If-Modified-Since: Mon, 23 Nov 2026 12:00:00 GMT"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			keep(t, cache, start, get(t, page), c.status, "x", c.stored...)
			req := get(t, page, c.asked...)
			a, ok := cache.Find(req, time.Hour, start)
			if !ok {
				t.Fatal("nothing is found")
			}
			got := ""
			h := a.Condition(req)
			for _, name := range []string{"If-None-Match", "If-Modified-Since"} {
				if v := h.Get(name); v != "" {
					got += name + ": " + v
				}
			}
			if got != c.want {
				t.Errorf("asks %q, want %q", got, c.want)
			}
		})
	}
}
