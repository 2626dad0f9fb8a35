package fallbackcache

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// crossing fills a cache with one answer to req and says what other gets.
func crossing(t *testing.T, cache *Cache, req, other *http.Request) string {
	t.Helper()
	keep(t, cache, start, req, 200, "secret of the first", "Cache-Control: max-age=60")
	if got := found(t, cache, start, time.Hour, req); got != "secret of the first" {
		t.Fatalf("the first user does not get his own answer: %q", got)
	}
	return found(t, cache, start, time.Hour, other)
}

func TestUsersAreKeptApart(t *testing.T) {
	for _, name := range DefaultCredentials() {
		if canon := http.CanonicalHeaderKey(name); canon != name {
			t.Errorf("DefaultCredentials has %q, which is written %q", name, canon)
		}
		one, two := get(t, page, name+": alice"), get(t, page, name+": bob")
		if got := crossing(t, new(Cache), one, two); got != none {
			t.Errorf("%s: bob got %q", name, got)
		}
		if got := crossing(t, new(Cache), one, get(t, page)); got != none {
			t.Errorf("%s: one without credentials got %q", name, got)
		}
		if got := crossing(t, new(Cache), get(t, page), one); got != none {
			t.Errorf("%s: alice got what was said to nobody: %q", name, got)
		}
	}
}

// Credentials that are alike when glued together must not be alike.
func TestCredentialsDoNotCollide(t *testing.T) {
	sets := [][]string{
		{},
		{"Cookie: a", "Cookie: b"},
		{"Cookie: a, b"},
		{"Cookie: ab"},
		{"Cookie: a", "X-Api-Key: b"},
		{"Cookie: aX-Api-Key", "X-Api-Key: b"},
		{"Cookie: b", "X-Api-Key: a"},
		{"X-Api-Key: ab"},
		{"Cookie:"},
		{"Authorization: a"},
	}
	for i := range sets {
		for j := range sets {
			if i == j {
				continue
			}
			if got := crossing(t, new(Cache), get(t, page, sets[i]...), get(t, page, sets[j]...)); got != none {
				t.Errorf("%q got the answer of %q", sets[j], sets[i])
			}
		}
	}
}

func TestRawFieldNames(t *testing.T) {
	raw := func(name, value string) *http.Request {
		req := get(t, page)
		req.Header[name] = []string{value} // as net/http would send it
		return req
	}
	if got := crossing(t, new(Cache), raw("x-api-key", "alice"), raw("x-api-key", "bob")); got != none {
		t.Errorf("bob got %q", got)
	}
	if got := crossing(t, new(Cache), raw("x-api-key", "alice"), get(t, page, "X-Api-Key: alice")); got == none {
		t.Error("the same key in another spelling found nothing")
	}
	cache := new(Cache)
	keep(t, cache, start, get(t, page), 200, "good", "Cache-Control: max-age=60")
	if got := found(t, cache, start, 0, raw("cache-control", "no-cache")); got != none {
		t.Errorf("no-cache in lower case was not seen: %q", got)
	}
}

func TestChosenCredentials(t *testing.T) {
	cache := &Cache{Credentials: []string{"x-who"}}
	if got := crossing(t, cache, get(t, page, "X-Who: a"), get(t, page, "X-Who: b")); got != none {
		t.Errorf("b got %q", got)
	}
	cache = &Cache{Credentials: []string{"x-who"}}
	if got := crossing(t, cache, get(t, page, "Cookie: a"), get(t, page, "Cookie: b")); got == none {
		t.Error("Cookie was not in the list, and separated")
	}
}

func TestPartition(t *testing.T) {
	type tenant struct{}
	cache := &Cache{Partition: func(r *http.Request) string {
		name, _ := r.Context().Value(tenant{}).(string)
		return name
	}}
	as := func(name string) *http.Request {
		return get(t, page).WithContext(context.WithValue(t.Context(), tenant{}, name))
	}
	if got := crossing(t, cache, as("red"), as("blue")); got != none {
		t.Errorf("blue got %q", got)
	}
	if got := found(t, cache, start, 0, as("")); got != none {
		t.Errorf("one without a tenant got %q", got)
	}
}

func TestPartitionThatPanics(t *testing.T) {
	angry := true
	cache := &Cache{Partition: func(*http.Request) string {
		if angry {
			panic("no tenant")
		}
		return ""
	}}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		req := get(t, page)
		cache.Keep(req, response(t, req, 200, "x", "Cache-Control: max-age=60"), start)
	}()
	angry = false
	keep(t, cache, start, get(t, page), 200, "good", "Cache-Control: max-age=60")
	if got := found(t, cache, start, 0, get(t, page)); got != "good" {
		t.Errorf("after the panic: %q", got)
	}
}

// A base that adds credentials of its own makes answers nobody can tell apart.
func TestCredentialsAddedByTheBase(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"added":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") },
		"changed":    func(r *http.Request) { r.Header.Set("Cookie", "mallory") },
		"taken away": func(r *http.Request) { r.Header.Del("Cookie") },
		"sent raw":   func(r *http.Request) { r.Header["x-api-key"] = []string{"k"} },
		"query":      func(r *http.Request) { r.URL.RawQuery += "&key=k" },
		"a part":     func(r *http.Request) { r.Header.Set("Range", "bytes=0-3") },
		"userinfo":   func(r *http.Request) { r.URL.User = url.UserPassword("mallory", "") },
		"no URL":     func(r *http.Request) { r.URL = nil },
		"method":     func(r *http.Request) { r.Method = "POST" },
	} {
		cache := new(Cache)
		req := get(t, page, "Cookie: alice")
		sent := req.Clone(t.Context())
		change(sent)
		resp := response(t, sent, 200, "x", "Cache-Control: max-age=60")
		if got := cache.Keep(req, resp, start); got != resp {
			t.Errorf("%s: the response is being stored", name)
		}
	}
	cache := new(Cache)
	req := get(t, page, "Cookie: alice")
	sent := req.Clone(t.Context())
	sent.Header.Set("Traceparent", "00-1-2-3")
	sent.URL.Host = "10.0.0.1" // found by discovery
	drain(t, cache.Keep(req, response(t, sent, 200, "good", "Cache-Control: max-age=60"), start))
	if got := found(t, cache, start, 0, req); got != "good" {
		t.Errorf("a field that is no credential kept it from being stored: %q", got)
	}
}

func TestTargets(t *testing.T) {
	with := func(url string, change func(*http.Request)) *http.Request {
		req := get(t, url)
		change(req)
		return req
	}
	host := func(url, host string) *http.Request { return with(url, func(r *http.Request) { r.Host = host }) }
	built := func(u url.URL) *http.Request {
		return with("http://h.test/", func(r *http.Request) { r.URL, r.Host = &u, "" })
	}
	for _, c := range []struct {
		name     string
		one, two *http.Request
		same     bool
	}{
		{"host in capitals", get(t, "http://h.test/a"), get(t, "http://H.Test/a"), true},
		{"scheme in capitals", get(t, "http://h.test/a"), built(url.URL{Scheme: "HTTP", Host: "h.test", Path: "/a"}), true},
		{"default port", get(t, "http://h.test/a"), get(t, "http://h.test:80/a"), true},
		{"default port of https", get(t, "https://h.test/a"), get(t, "https://h.test:443/a"), true},
		{"empty port", get(t, "http://h.test/a"), get(t, "http://h.test:/a"), true},
		{"the other scheme's port", get(t, "http://h.test/a"), get(t, "http://h.test:443/a"), false},
		{"fragment", get(t, "http://h.test/a"), get(t, "http://h.test/a#x"), true},
		{"empty path", get(t, "http://h.test"), get(t, "http://h.test/"), true},
		{"scheme", get(t, "http://h.test/a"), get(t, "https://h.test/a"), false},
		{"path in capitals", get(t, "http://h.test/a"), get(t, "http://h.test/A"), false},
		{"query in another order", get(t, "http://h.test/?a=1&b=2"), get(t, "http://h.test/?b=2&a=1"), false},
		{"empty query", get(t, "http://h.test/a"), get(t, "http://h.test/a?"), false},
		{"path with an escaped slash", get(t, "http://h.test/a%2Fb"), get(t, "http://h.test/a/b"), false},
		{"question mark in the path", get(t, "http://h.test/a%3Fb"), get(t, "http://h.test/a?b"), false},
		{"Host says another name", get(t, "http://h.test/a"), host("http://h.test/a", "other.test"), false},
		{"Host says the same name", get(t, "http://h.test/a"), host("http://h.test/a", "H.test:80"), true},
		{"Host hides another server", host("http://10.0.0.1/a", "h.test"), host("http://10.0.0.2/a", "h.test"), false},
		{"Host names a server that was not asked", host("http://10.0.0.1/a", "h.test"), get(t, "http://h.test/a"), false},
		{"userinfo", get(t, "http://alice:1@h.test/a"), get(t, "http://bob:1@h.test/a"), false},
		{"userinfo or none", get(t, "http://@h.test/a"), get(t, "http://h.test/a"), false},
		{"slash in the host", built(url.URL{Scheme: "http", Host: "h/b", Path: "/c"}), built(url.URL{Scheme: "http", Host: "h", Path: "/b/c"}), false},
		{"colons in the host", built(url.URL{Scheme: "http", Host: "h::80", Path: "/"}), built(url.URL{Scheme: "http", Host: "h", Path: "/"}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := crossing(t, new(Cache), c.one, c.two) != none; got != c.same {
				t.Errorf("%s and %s share an answer: %v, want %v", c.one.URL, c.two.URL, got, c.same)
			}
		})
	}
}

func TestTargetWithoutName(t *testing.T) {
	for _, u := range []url.URL{{Path: "/a"}, {Scheme: "http", Host: "a\x00b", Path: "/"}, {Scheme: "a\x00b", Host: "h", Path: "/"}} {
		req := get(t, page)
		req.URL, req.Host = &u, ""
		resp := response(t, req, 200, "x", "Cache-Control: max-age=60")
		if new(Cache).Keep(req, resp, start) != resp {
			t.Errorf("an answer for %q is being stored", fmt.Sprint(u))
		}
	}
}
