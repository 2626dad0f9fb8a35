package fallbackcache

import (
	"net/http"
	"testing"
	"time"
)

// Each case stores the body "good" from one exchange in a shared cache, then
// asks again after a while. Names begin with the section of RFC 9111.
func TestSharedRules(t *testing.T) {
	type fields = []string
	const hour = time.Hour
	dated := start.Format(http.TimeFormat)
	later := start.Add(hour).Format(http.TimeFormat)

	for _, c := range []struct {
		name     string
		asked    fields
		said     fields
		after    time.Duration
		again    fields
		maxStale time.Duration
		want     string // "" is "good"
	}{
		{name: "3 public", said: fields{"Cache-Control: public, max-age=60"}, after: 59 * time.Second},
		{name: "3 public, stale", said: fields{"Cache-Control: public, max-age=60"}, after: 2 * time.Minute, maxStale: hour},
		{name: "3 public in capitals", said: fields{"Cache-Control: PUBLIC, max-age=60"}},
		{name: "3 not asked to share", said: fields{"Cache-Control: max-age=60"}, want: none},
		{name: "3 public in another's quotes", said: fields{`Cache-Control: ext="public", max-age=60`}, want: none},
		{name: "3 public, and no-store", said: fields{"Cache-Control: public, no-store, max-age=60"}, want: none},
		{name: "3 s-maxage alone does not say public", said: fields{"Cache-Control: s-maxage=60"}, want: none},

		{name: "3.5 Authorization", asked: fields{"Authorization: a"}, said: fields{"Cache-Control: max-age=60"}, again: fields{"Authorization: a"}, want: none},
		{name: "3.5 Authorization, must-revalidate", asked: fields{"Authorization: a"}, said: fields{"Cache-Control: must-revalidate, max-age=60"}, again: fields{"Authorization: a"}, want: none},
		{name: "3.5 Authorization, public", asked: fields{"Authorization: a"}, said: fields{"Cache-Control: public, max-age=60"}, again: fields{"Authorization: a"}},
		{name: "3.5 Authorization, public: another's", asked: fields{"Authorization: a"}, said: fields{"Cache-Control: public, max-age=60"}, again: fields{"Authorization: b"}, want: none},
		{name: "3.5 Authorization, public: nobody's", asked: fields{"Authorization: a"}, said: fields{"Cache-Control: public, max-age=60"}, want: none},

		{name: "5.2.2.7 private", said: fields{"Cache-Control: private, max-age=60"}, want: none},
		{name: "5.2.2.7 private wins over public", said: fields{"Cache-Control: public, private, max-age=60"}, want: none},
		{name: "5.2.2.7 private on a second line", said: fields{"Cache-Control: public, max-age=60", "Cache-Control: Private"}, want: none},
		{name: "5.2.2.7 private for fields", said: fields{`Cache-Control: public, private="x-user", max-age=60`}},
		{name: "5.2.2.7 private for no fields", said: fields{`Cache-Control: public, private="", max-age=60`}, want: none},
		{name: "5.2.2.7 private with a token", said: fields{`Cache-Control: public, private=x-user, max-age=60`}, want: none},

		{name: "4.2.1 s-maxage before max-age", said: fields{"Cache-Control: public, s-maxage=60, max-age=10"}, after: 59 * time.Second},
		{name: "4.2.1 s-maxage before max-age, shorter", said: fields{"Cache-Control: public, s-maxage=10, max-age=60"}, after: 11 * time.Second, want: none},
		{name: "4.2.1 s-maxage before Expires", said: fields{"Cache-Control: public, s-maxage=10", "Date: " + dated, "Expires: " + later}, after: 11 * time.Second, want: none},
		{name: "4.2.1 s-maxage of zero", said: fields{"Cache-Control: public, s-maxage=0, max-age=60"}, want: none},
		{name: "4.2.1 s-maxage said twice, differently", said: fields{"Cache-Control: public, s-maxage=60, s-maxage=90"}, want: none},
		{name: "4.2.1 s-maxage that is no number", said: fields{"Cache-Control: public, s-maxage=x, max-age=60"}, want: none},
		{name: "4.2.3 s-maxage and Age", said: fields{"Cache-Control: public, s-maxage=60", "Age: 50"}, after: 11 * time.Second, want: none},

		{name: "5.2.2.10 s-maxage forbids stale", said: fields{"Cache-Control: public, s-maxage=10"}, after: 11 * time.Second, maxStale: hour, want: none},
		{name: "5.2.2.8 proxy-revalidate forbids stale", said: fields{"Cache-Control: public, proxy-revalidate, max-age=10"}, after: 11 * time.Second, maxStale: hour, want: none},
		{name: "5.2.2.8 proxy-revalidate, fresh", said: fields{"Cache-Control: public, proxy-revalidate, max-age=10"}},
		{name: "5.2.2.2 must-revalidate forbids stale", said: fields{"Cache-Control: public, must-revalidate, max-age=10"}, after: 11 * time.Second, maxStale: hour, want: none},
		{name: "5861 4 stale-if-error does not undo s-maxage", said: fields{"Cache-Control: public, s-maxage=10, stale-if-error=600"}, after: 11 * time.Second, maxStale: hour, want: none},

		{name: "7.3 Set-Cookie", said: fields{"Cache-Control: public, max-age=60", "Set-Cookie: a=b"}, want: none},
		{name: "7.3 Cookie asked for at first", asked: fields{"Cookie: a"}, said: fields{"Cache-Control: public, max-age=60"}, want: none},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := &Cache{Shared: true}
			keep(t, cache, start, get(t, page, c.asked...), 200, "good", c.said...)
			want := c.want
			if want == "" {
				want = "good"
			}
			if got := found(t, cache, start.Add(c.after), c.maxStale, get(t, page, c.again...)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// RFC 9111, section 5.2.2.7: the fields that private names are not for others.
func TestSharedLeavesPrivateFieldsOut(t *testing.T) {
	cache := &Cache{Shared: true}
	keep(t, cache, start, get(t, page), 200, "good", `Cache-Control: public, private="x-user, X-Other", max-age=60`, "X-User: alice", "X-Other: 1", "X-Kept: 1")
	a, ok := cache.Find(get(t, page), 0, start)
	if !ok {
		t.Fatal("not stored")
	}
	h := a.Response(get(t, page), Outcome{}).Header
	if h.Get("X-User") != "" || h.Get("X-Other") != "" || h.Get("X-Kept") != "1" {
		t.Errorf("got %v", h)
	}
}

// What is no longer for all takes the place of what was.
func TestSharedUntilPrivate(t *testing.T) {
	for _, c := range []struct{ said, want string }{
		{"private, max-age=60", none},
		{"max-age=60", "good"}, // it does not say that the older one is not for all
	} {
		cache := &Cache{Shared: true}
		keep(t, cache, start, get(t, page), 200, "good", "Cache-Control: public, max-age=60", `ETag: "1"`)
		keep(t, cache, start, get(t, page), 200, "one's own", "Cache-Control: "+c.said)
		if got := found(t, cache, start, 0, get(t, page)); got != c.want {
			t.Errorf("after %q: got %q, want %q", c.said, got, c.want)
		}
	}
	// A 304 says it too (section 4.3.4).
	cache := &Cache{Shared: true}
	keep(t, cache, start, get(t, page), 200, "good", "Cache-Control: public, max-age=60", `ETag: "1"`)
	keep(t, cache, start, get(t, page, `If-None-Match: "1"`), 304, "", "Cache-Control: private", `ETag: "1"`)
	if got := found(t, cache, start, time.Hour, get(t, page)); got != none {
		t.Errorf("after a 304 that says private: got %q", got)
	}
}

// RFC 5861, section 3, and RFC 9111, section 5.2.2.10: what s-maxage keeps from
// being stale is not given while it is asked about either.
func TestSharedWhileRevalidating(t *testing.T) {
	for said, want := range map[string]bool{
		"public, max-age=10, stale-while-revalidate=60":                   true,
		"public, s-maxage=10, stale-while-revalidate=60":                  false,
		"public, max-age=10, proxy-revalidate, stale-while-revalidate=60": false,
	} {
		cache := &Cache{Shared: true}
		keep(t, cache, start, get(t, page), 200, "good", "Cache-Control: "+said)
		if a := cache.Look(get(t, page), 0, start.Add(20*time.Second)); a == nil || a.Immediate != want {
			t.Errorf("%s: got %+v, want it given at once: %v", said, a, want)
		}
	}
}
