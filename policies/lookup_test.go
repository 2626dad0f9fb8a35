package policies

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func mustCompile(t testing.TB, set *Set) *Snapshot {
	t.Helper()
	snapshot, err := Compile(set)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return snapshot
}

func mustURL(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// upstreams is a set in which each upstream has one match, written as
// "METHOD,METHOD host/path".
func upstreams(matches map[string]string) *Set {
	set := &Set{Version: 1, Upstreams: map[string]Policy{}}
	for name, text := range matches {
		match := Match{}
		if methods, rest, ok := strings.Cut(text, " "); ok {
			match.Methods, text = strings.Split(methods, ","), rest
		}
		if i := strings.IndexByte(text, '/'); i >= 0 {
			text, match.Path = text[:i], text[i:]
		}
		match.Host = text
		set.Upstreams[name] = Policy{Match: []Match{match}}
	}
	return set
}

func TestLookup(t *testing.T) {
	snapshot := mustCompile(t, upstreams(map[string]string{
		"exact":         "api.example.com",
		"exact-port":    "api.example.com:8443",
		"exact-443":     "api.example.com:443/secure",
		"path":          "api.example.com/v1",
		"path-longer":   "api.example.com/v1/users/",
		"path-post":     "POST,PUT api.example.com/v1/users",
		"suffix":        "*.example.com",
		"suffix-port":   "*.example.com:81",
		"suffix-longer": "*.eu.example.com",
		"only-path":     "narrow.example.com/only",
		"only-get":      "GET method.example.com",
		"v6":            "[2001:DB8:0::1]",
		"v6-port":       "[::1]:8080",
		"v4":            "127.0.0.1",
	}))
	for _, c := range []struct{ method, url, want string }{
		{"GET", "http://api.example.com/", "exact"},
		{"GET", "http://api.example.com", "exact"},
		{"GET", "http://API.Example.COM./", "exact"},
		{"GET", "http://api.example.com:8443/v1", "exact-port"},
		{"GET", "https://api.example.com/secure", "exact-443"},
		{"GET", "https://api.example.com/secure/x", "exact-443"},
		{"GET", "https://api.example.com/secured", "exact"},
		{"GET", "http://api.example.com/secure", "exact"},
		{"GET", "http://api.example.com:443/secure", "exact-443"},
		{"GET", "https://api.example.com/v1", "path"},
		{"GET", "http://api.example.com/v1/", "path"},
		{"GET", "http://api.example.com/v1x", "exact"},
		{"GET", "http://api.example.com/v1/users", "path-longer"},
		{"GET", "http://api.example.com/v1/users/7?q=/v2", "path-longer"},
		{"PUT", "http://api.example.com/v1/users", "path-post"},
		{"put", "http://api.example.com/v1/users", "path-longer"},
		{"GET", "http://api.example.com/v1/usersx", "path"},
		{"GET", "http://api.example.com/%76%31/x", "path"},
		{"GET", "http://www.example.com/", "suffix"},
		{"GET", "http://a.b.c.example.com/", "suffix"},
		{"GET", "http://www.example.com:81/", "suffix-port"},
		{"GET", "http://www.eu.example.com/", "suffix-longer"},
		{"GET", "http://www.eu.example.com:81/", "suffix-longer"},
		{"GET", "http://eu.example.com/", "suffix"},
		{"GET", "http://example.com/", ""},
		{"GET", "http://notexample.com/", ""},
		{"GET", "http://narrow.example.com/only/this", "only-path"},
		{"GET", "http://narrow.example.com/other", "suffix"},
		{"", "http://method.example.com/", "only-get"},
		{"POST", "http://method.example.com/", "suffix"},
		{"GET", "http://[2001:db8::1]/", "v6"},
		{"GET", "http://[2001:DB8:0:0:0:0:0:1]:99/", "v6"},
		{"GET", "http://[::1]:8080/", "v6-port"},
		{"GET", "http://[::1]/", ""},
		{"GET", "http://127.0.0.1:5000/x", "v4"},
		{"GET", "http://" + strings.Repeat("a", 300) + ".example.com/", ""},
		{"GET", "/no/host", ""},
		{"GET", "mailto:somebody@api.example.com", ""},
	} {
		got := ""
		if u := snapshot.Lookup(c.method, mustURL(t, c.url)); u != nil {
			got = u.Name
		}
		if got != c.want {
			t.Errorf("%s %s goes to %q, want %q", c.method, c.url, got, c.want)
		}
	}
}

// A URL need not come from url.Parse; whatever is in it, there is an answer.
func TestLookupOddURLs(t *testing.T) {
	snapshot := mustCompile(t, upstreams(map[string]string{"any": "*", "port": "*:80", "a": "a.internal"}))
	for host, want := range map[string]string{
		"":                 "",
		"a.internal:":      "a",
		"a.internal:x":     "a",
		"a.internal:99999": "a",
		"[":                "any",
		"[::1":             "any",
		"[]":               "port",
		"::1":              "any",
		":":                "port",
		".":                "port",
		"[fe80::1%eth0]:1": "any",
		"bücher.example":   "port",
	} {
		got := ""
		if u := snapshot.Lookup("GET", &url.URL{Scheme: "http", Host: host}); u != nil {
			got = u.Name
		}
		if got != want {
			t.Errorf("host %q goes to %q, want %q", host, got, want)
		}
	}
	if snapshot.Lookup("GET", nil) != nil {
		t.Error("no URL goes somewhere")
	}
	var none *Snapshot
	if none.Lookup("GET", &url.URL{Host: "a"}) != nil || none.Named("a") != nil || none.Len() != 0 || none.Upstreams() != nil || none.Set() != nil || none.ETag() != "" {
		t.Error("a nil snapshot has something")
	}
	if new(Snapshot).Lookup("GET", &url.URL{Host: "a"}) != nil {
		t.Error("a zero snapshot has an upstream")
	}
}

// TestPaths: however many paths a host has, the longest whole prefix wins, of
// it the named method, and a path that is not for the method is passed over.
func TestPaths(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	path := func() (p string) {
		for range rnd.IntN(4) {
			p += "/" + []string{"a", "b", "ab"}[rnd.IntN(3)]
		}
		return p
	}
	for range 500 {
		set := &Set{Version: 1, Upstreams: map[string]Policy{}}
		named := map[string]string{} // by path and method
		for range 1 + rnd.IntN(9) {
			m := Match{Host: "h.test", Path: path(), Methods: [][]string{nil, {"GET"}, {"PUT"}}[rnd.IntN(3)]}
			key := trimPath(m.Path) + " " + strings.Join(m.Methods, "")
			if named[key] == "" {
				named[key] = fmt.Sprintf("u%d", len(named))
				set.Upstreams[named[key]] = Policy{Match: []Match{m}}
			}
		}
		snapshot := mustCompile(t, set)
		for range 40 {
			asked, method := path(), []string{"GET", "PUT"}[rnd.IntN(2)]
			want := ""
			for n := len(asked); n >= 0 && want == ""; n-- {
				if n == 0 || n == len(asked) || asked[n] == '/' {
					want = cmp.Or(named[asked[:n]+" "+method], named[asked[:n]+" "])
				}
			}
			got := ""
			if u := snapshot.Lookup(method, &url.URL{Scheme: "http", Host: "h.test", Path: asked}); u != nil {
				got = u.Name
			}
			if got != want {
				t.Fatalf("seed %d: %s %s goes to %q, want %q, among %v", seed, method, asked, got, want, named)
			}
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	snapshot := mustCompile(t, manyUpstreams(100))
	for _, raw := range []string{
		"https://host7.internal/v1/users/5", "http://HOST7.internal:80/v1", "http://x.y.suffix7.example.com/", "http://[::1]:8080/", "http://nobody.example.org/",
	} {
		u := mustURL(t, raw)
		if n := testing.AllocsPerRun(100, func() { snapshot.Lookup("GET", u) }); n != 0 {
			t.Errorf("looking up %s allocates %v times, want 0", raw, n)
		}
	}
}

// manyUpstreams is a set of n upstreams with an exact host, a path on a host
// that all share, and a suffix each.
func manyUpstreams(n int) *Set {
	set := &Set{Version: 1, Upstreams: make(map[string]Policy, n)}
	for i := range n {
		set.Upstreams[fmt.Sprintf("up%d", i)] = Policy{Match: []Match{
			{Host: fmt.Sprintf("host%d.internal", i)},
			{Host: "shared.internal", Path: fmt.Sprintf("/team%d/v1", i)},
			{Host: fmt.Sprintf("*.suffix%d.example.com", i)},
		}}
	}
	return set
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		snapshot := mustCompile(b, manyUpstreams(n))
		for _, c := range []struct{ name, url string }{
			{"", fmt.Sprintf("https://host%d.internal/v1/users/5", n/2)},
			{"/path", fmt.Sprintf("https://shared.internal/team%d/v1/users/5", n/2)},
			{"/suffix", fmt.Sprintf("https://eu.suffix%d.example.com/v1/users/5", n/2)},
			{"/none", "https://www.somewhere.example.org/v1/users/5"},
		} {
			u := mustURL(b, c.url)
			b.Run(fmt.Sprint(n)+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if (snapshot.Lookup("GET", u) == nil) != (c.name == "/none") {
						b.Fatal("wrong upstream")
					}
				}
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		set := manyUpstreams(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				mustCompile(b, set)
			}
		})
	}
}

// The order of the upstreams is that of their names.
func TestUpstreamsInOrder(t *testing.T) {
	snapshot := mustCompile(t, manyUpstreams(20))
	all := snapshot.Upstreams()
	if len(all) != 20 || snapshot.Len() != 20 {
		t.Fatalf("there are %d, Len says %d; want 20", len(all), snapshot.Len())
	}
	if !slices.IsSortedFunc(all, func(a, b *Upstream) int { return cmp.Compare(a.Name, b.Name) }) {
		t.Error("the upstreams are not in the order of their names")
	}
	for i, u := range all {
		if u.Index != i || snapshot.Named(u.Name) != u {
			t.Errorf("upstream %d is %s with index %d; Named gives %v", i, u.Name, u.Index, snapshot.Named(u.Name))
		}
	}
}
