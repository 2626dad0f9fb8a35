//go:build unix

package fallbackcache

import (
	"fmt"
	"io"
	"testing"
	"time"
)

// RFC 9111, section 4.4.
func TestInvalidate(t *testing.T) {
	const (
		self  = "http://upstream.test/items/1?x=1"
		other = "http://upstream.test/items"
		far   = "http://elsewhere.test/items"
	)
	for _, c := range []struct {
		name   string
		method string
		status int
		fields []string
		gone   []string
	}{
		{"PUT", "PUT", 200, nil, []string{self}},
		{"POST", "POST", 201, nil, []string{self}},
		{"DELETE", "DELETE", 204, nil, []string{self}},
		{"PATCH with a redirect", "PATCH", 303, nil, []string{self}},
		{"a method nobody knows", "M-FROBNICATE", 200, nil, []string{self}},
		{"get, which is not GET", "get", 200, nil, []string{self}},
		{"Location", "POST", 201, []string{"Location: /items"}, []string{self, other}},
		{"Location, absolute", "POST", 201, []string{"Location: HTTP://Upstream.test:80/items#new"}, []string{self, other}},
		{"Content-Location, relative", "POST", 200, []string{"Content-Location: ../items"}, []string{self, other}},
		{"Location of another origin", "POST", 201, []string{"Location: " + far}, []string{self}},
		{"Location of another scheme", "POST", 201, []string{"Location: https://upstream.test/items"}, []string{self}},
		{"Location that is none", "POST", 201, []string{"Location: :%zz"}, []string{self}},
		{"a refusal", "PUT", 409, nil, nil},
		{"a failure", "PUT", 503, nil, nil},
		{"GET", "GET", 200, nil, nil},
		{"HEAD", "HEAD", 200, nil, nil},
		{"OPTIONS", "OPTIONS", 200, nil, nil},
		{"a search", "QUERY", 200, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			for _, url := range []string{self, other, far} {
				for _, fields := range [][]string{nil, {"Authorization: alice"}, {"Accept: a"}} {
					keep(t, cache, start, get(t, url, fields...), 200, "good", "Vary: Accept")
				}
			}
			req := request(t, c.method, self, "Authorization: bob")
			cache.Invalidate(req, response(t, req, c.status, "", c.fields...))
			for _, url := range []string{self, other, far} {
				want := "good"
				for _, g := range c.gone {
					if g == url {
						want = none
					}
				}
				for _, fields := range [][]string{nil, {"Authorization: alice"}, {"Accept: a"}} {
					if got := found(t, cache, start, time.Hour, get(t, url, fields...)); got != want {
						t.Errorf("%s for %q: %q, want %q", url, fields, got, want)
					}
				}
			}
			check(t, &cache.memory)
		})
	}
}

func TestInvalidateByHost(t *testing.T) {
	cache := new(Cache)
	ask := func(method string) (h, plain string) {
		named := request(t, method, "http://10.0.0.1/a")
		named.Host = "upstream.test"
		if method == "GET" {
			keep(t, cache, start, named, 200, "named")
			keep(t, cache, start, get(t, "http://10.0.0.1/a"), 200, "plain")
		} else {
			cache.Invalidate(named, response(t, named, 200, ""))
		}
		named = get(t, "http://10.0.0.1/a")
		named.Host = "upstream.test"
		return found(t, cache, start, time.Hour, named), found(t, cache, start, time.Hour, get(t, "http://10.0.0.1/a"))
	}
	if h, p := ask("GET"); h != "named" || p != "plain" {
		t.Fatalf("stored %q and %q", h, p)
	}
	if h, p := ask("PUT"); h != none || p != "plain" {
		t.Errorf("after a PUT to the named one: %q and %q, want none and plain", h, p)
	}
}

func TestInvalidateWithoutResponse(t *testing.T) {
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "good")
	cache.Invalidate(request(t, "PUT", page), nil)
	if got := found(t, cache, start, time.Hour, get(t, page)); got != "good" {
		t.Errorf("a PUT that got no answer removed it: %q", got)
	}
}

// What is invalidated while an answer is on its way is not stored after; other
// URIs are.
func TestInvalidateMeanwhile(t *testing.T) {
	t.Run("memory", func(t *testing.T) { invalidateMeanwhile(t, new(Cache), 2) })           // one in a thousand
	t.Run("disk", func(t *testing.T) { invalidateMeanwhile(t, onDisk(t, t.TempDir()), 8) }) // one in 80
}

func invalidateMeanwhile(t *testing.T, cache *Cache, most int) {
	change := func(url string) {
		req := request(t, "PUT", url)
		cache.Invalidate(req, response(t, req, 200, ""))
	}
	lost := 0
	for i := range 100 {
		url := fmt.Sprint(page, "?", i)
		req := get(t, url)
		resp := cache.Keep(req, response(t, req, 200, "good", "Cache-Control: max-age=60"), start)
		for n := range 200 {
			change(fmt.Sprint(page, "/", i, "/", n))
		}
		io.ReadAll(resp.Body)
		if found(t, cache, start, time.Hour, get(t, url)) != "good" {
			lost++
		}

		resp = cache.Keep(req, response(t, req, 200, "old", "Cache-Control: max-age=60"), start.Add(time.Second))
		change(url)
		io.ReadAll(resp.Body)
		if got := found(t, cache, start, time.Hour, get(t, url)); got != none {
			t.Fatalf("%q was stored after it had been changed", got)
		}
	}
	if lost > most {
		t.Errorf("%d of 100 answers were not stored because other URIs had been changed", lost)
	}
}
