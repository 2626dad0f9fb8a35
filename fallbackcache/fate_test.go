package fallbackcache

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// Each response has one fate, which is told once and counted.
func TestFates(t *testing.T) {
	const fresh = "Cache-Control: public, max-age=60"
	read := func(resp *http.Response) {
		_, _ = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	for _, c := range []struct {
		name  string
		cache *Cache // nil: the zero one
		asked []string
		said  []string
		sent  func(*http.Request, *http.Response)
		then  func(*http.Response)
		want  Fate
	}{
		{name: "read to its end", said: []string{fresh}, want: Stored},
		{name: "a 304", asked: []string{`If-None-Match: "1"`}, said: []string{fresh, `ETag: "1"`}, sent: func(_ *http.Request, resp *http.Response) { resp.StatusCode = 304 }, want: Stored},
		{name: "a 304 of something else", asked: []string{`If-None-Match: "2"`}, said: []string{fresh, `ETag: "2"`}, sent: func(_ *http.Request, resp *http.Response) { resp.StatusCode = 304 }, want: Uncacheable},
		{name: "a 500", said: []string{fresh}, sent: func(_ *http.Request, resp *http.Response) { resp.StatusCode = 500 }, want: Uncacheable},
		{name: "a HEAD", said: []string{fresh}, sent: func(req *http.Request, _ *http.Response) { req.Method = "HEAD" }, want: Uncacheable},
		{name: "a stream of events", said: []string{fresh, "Content-Type: text/event-stream"}, want: Uncacheable},
		{name: "no-store", said: []string{"Cache-Control: no-store"}, want: Forbidden},
		{name: "Vary: *", said: []string{fresh, "Vary: *"}, want: Forbidden},
		{name: "401", said: []string{fresh}, sent: func(_ *http.Request, resp *http.Response) { resp.StatusCode = 401 }, want: Forbidden},
		{name: "private, shared", cache: &Cache{Shared: true}, said: []string{"Cache-Control: private"}, want: Forbidden},
		{name: "not public, shared", cache: &Cache{Shared: true}, said: []string{"Cache-Control: max-age=60"}, want: NotPublic},
		{name: "a cookie, shared", cache: &Cache{Shared: true}, said: []string{fresh, "Set-Cookie: a=b"}, want: NotPublic},
		{name: "no-store asked for", asked: []string{"Cache-Control: no-store"}, said: []string{fresh}, want: ByRequest},
		{name: "a part asked for", asked: []string{"Range: bytes=0-1"}, said: []string{fresh}, want: ByRequest},
		{name: "a body sent", said: []string{fresh}, sent: func(req *http.Request, _ *http.Response) { req.ContentLength = 1 }, want: ByRequest},
		{name: "signed on the way", said: []string{fresh}, sent: func(req *http.Request, resp *http.Response) {
			resp.Request = req.Clone(req.Context())
			resp.Request.Header.Set("Authorization", "base")
		}, want: OtherSender},
		{name: "varies by what the base adds", said: []string{fresh, "Vary: X-Added"}, sent: func(req *http.Request, resp *http.Response) {
			resp.Request = req.Clone(req.Context())
			resp.Request.Header.Set("X-Added", "1")
		}, want: OtherSender},
		{name: "longer than MaxObject, as it says", cache: &Cache{MaxObject: 3}, said: []string{fresh}, want: TooLarge},
		{name: "longer than MaxObject", cache: &Cache{MaxObject: 3}, said: []string{fresh}, sent: func(_ *http.Request, resp *http.Response) { resp.ContentLength = -1 }, want: TooLarge},
		{name: "no memory", cache: &Cache{MaxBytes: 100}, said: []string{fresh}, sent: func(_ *http.Request, resp *http.Response) { resp.ContentLength = -1 }, want: TooLarge},
		{name: "closed early", said: []string{fresh}, then: func(resp *http.Response) { resp.Body.Close(); resp.Body.Close() }, want: Incomplete},
		{name: "shorter than it says", said: []string{fresh}, sent: func(_ *http.Request, resp *http.Response) { resp.ContentLength = 9 }, want: Incomplete},
		{name: "longer than it says", said: []string{fresh}, sent: func(_ *http.Request, resp *http.Response) { resp.ContentLength = 3 }, want: Incomplete},
		{name: "cut off", said: []string{fresh}, sent: func(_ *http.Request, resp *http.Response) {
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("bo"), iotest.ErrReader(errors.New("reset"))))
		}, want: Incomplete},
		{name: "no end to be seen", said: []string{fresh}, sent: func(_ *http.Request, resp *http.Response) { resp.ContentLength, resp.Close = -1, true }, want: Incomplete},
		{name: "older than what is there", said: []string{fresh, "Age: 100"}, want: Superseded},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := c.cache
			if cache == nil {
				cache = new(Cache)
			}
			keep(t, cache, start, get(t, page), 200, "body", fresh, `ETag: "1"`)
			before := cache.Stats()
			req := get(t, page, c.asked...)
			resp := response(t, req, 200, "body", c.said...)
			if c.sent != nil {
				c.sent(req, resp)
			}
			var told []Fate
			out := cache.KeepAnd(req, resp, Stamp{}, start, func(f Fate) { told = append(told, f) })
			if c.then == nil {
				c.then = read
			}
			c.then(out)
			out.Body.Close()
			if !slices.Equal(told, []Fate{c.want}) {
				t.Fatalf("told %v, want %v once", told, c.want)
			}
			after := cache.Stats()
			if c.want == Stored {
				before.Stored++
			} else {
				before.NotStored[c.want.String()]++
			}
			if after.Stored != before.Stored || !maps.Equal(after.NotStored, before.NotStored) {
				t.Errorf("counted %d and %v, want %d and %v", after.Stored, after.NotStored, before.Stored, before.NotStored)
			}
		})
	}
}

// What was invalidated while it was on its way is not kept.
func TestFateOfWhatWasChanged(t *testing.T) {
	var cache Cache
	req := get(t, page)
	fate := fates
	out := cache.KeepAnd(req, response(t, req, 200, "body", "Cache-Control: max-age=60"), Stamp{}, start, func(f Fate) { fate = f })
	cache.Invalidate(request(t, "PUT", page), response(t, request(t, "PUT", page), 200, ""))
	drain(t, out)
	if fate != Superseded {
		t.Errorf("told %v, want %v", fate, Superseded)
	}
}

// What was given, and what there is, can be read at any time.
func TestStats(t *testing.T) {
	cache := &Cache{MaxBytes: 3 * (entryOverhead + 1<<10)}
	body := strings.Repeat("x", 1<<9)
	for i := range 10 {
		keep(t, cache, start, numbered(t, i), 200, body, "Cache-Control: max-age=60", `ETag: "1"`)
	}
	s := cache.Stats()
	if s.Stored != 10 || s.Entries+s.Evicted != 10 || s.Entries < 2 || s.Bytes <= 0 || s.Bytes > cache.MaxBytes || s.Bytes < s.Entries*1<<9 {
		t.Errorf("after ten stores: %+v", s)
	}
	found(t, cache, start, 0, numbered(t, 9))
	found(t, cache, start.Add(time.Hour), 2*time.Hour, numbered(t, 9))
	found(t, cache, start, 0, numbered(t, 99))
	a, ok := cache.Find(numbered(t, 9), 0, start)
	if !ok {
		t.Fatal("not found")
	}
	req := numbered(t, 9)
	req.Header = a.Condition(req)
	drain(t, cache.Confirm(numbered(t, 9), a, response(t, req, 304, "", `ETag: "1"`), Stamp{}, start))
	s = cache.Stats()
	if s.Fresh != 1 || s.Stale != 1 || s.Confirmed != 1 || s.Hits != 3 || s.Misses != 1 || s.DiskFiles != 0 {
		t.Errorf("after a fresh, a stale, a missed and a confirmed one: %+v", s)
	}
	cache.Invalidate(request(t, "PUT", numbered(t, 9).URL.String()), response(t, request(t, "PUT", page), 200, ""))
	if after := cache.Stats(); after.Entries != s.Entries-1 || after.Evicted != s.Evicted || after.Bytes >= s.Bytes {
		t.Errorf("after one was changed: %+v", after)
	}
}

// Where nothing is held for a URI, what forbids storing is read no further.
func TestFateWhereNothingIsHeld(t *testing.T) {
	for said, want := range map[string]Fate{
		"no-store": Forbidden, "max-age=60, No-Store": Forbidden, "no-cache": Forbidden,
		"no-store, must-understand": Stored, `x="no-store"`: Stored,
	} {
		cache, req := new(Cache), get(t, page)
		var told []Fate
		drain(t, cache.KeepAnd(req, response(t, req, 200, "body", "Cache-Control: "+said), Stamp{}, start, func(f Fate) { told = append(told, f) }))
		if !slices.Equal(told, []Fate{want}) {
			t.Errorf("%s: told %v, want %v", said, told, want)
		}
	}
}
