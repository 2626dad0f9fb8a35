package fallbackcache

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

// The budget allows 3 allocations for a request of which nothing is stored.
// The cache makes none, whatever it holds of others.
func TestNotStoredAllocatesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		field  string
	}{"no-store": {200, "Cache-Control: no-store"}, "no-cache": {200, "Cache-Control: no-cache"}, "failure": {503, "Retry-After: 1"}} {
		cache := new(Cache)
		keep(t, cache, start, get(t, "http://upstream.test/other"), 200, "x")
		req := get(t, page, "Accept: application/json", "Authorization: Bearer x")
		resp := response(t, req, c.status, "x", "Content-Type: application/json", "Server: nginx", c.field)
		stored := 0
		n := testing.AllocsPerRun(100, func() {
			if _, ok := cache.Find(req, time.Hour, start); ok {
				stored++
			}
			if cache.KeepAnd(req, resp, cache.Stamp(req), start, nil) != resp {
				stored++
			}
		})
		if n != 0 || stored != 0 {
			t.Errorf("%s: Find, Stamp and Keep make %v allocations, %d of them found or stored something; want none", name, n, stored)
		}
	}
}

// A key spells the path and query as they are sent.
func TestKeyIsAsRequestURI(t *testing.T) {
	for _, text := range []string{"http://a.test", "http://a.test/", "http://a.test?", "http://a.test/?", "http://a.test/a%2Fb?x=%41&y", "http://a.test//a b", "http://a.test/%zz?", "http:a.test/opaque?q"} {
		u, err := url.Parse(text)
		if err != nil {
			u = &url.URL{Scheme: "http", Host: "a.test", Path: text}
		}
		key, ok := uriKey(u, "A.test:80")
		if want := "http\x00a.test\x00" + u.RequestURI(); !ok || key != want {
			t.Errorf("%s: key %q, %v; want %q", text, key, ok, want)
		}
	}
}

func TestCanonicalNames(t *testing.T) {
	for _, name := range []string{"Accept", "accept", "X-Api-Key", "X-API-Key", "x-a", "Etag", "ETag", "X-1a", "X--A", "-A", "-a", ""} {
		if got, want := isCanonical(name), http.CanonicalHeaderKey(name) == name; got != want {
			t.Errorf("%q is canonical: %v, want %v", name, got, want)
		}
	}
}
