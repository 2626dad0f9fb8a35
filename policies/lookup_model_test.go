package policies

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naive is the definition of "most specific", a comparison of all matches
// with one another, for names without ports of their own.
func naive(set *Set, method string, u *url.URL) string {
	type candidate struct {
		name  string
		ranks [5]int // exact, length of the suffix, port, length of the path, method
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := strings.ToLower(u.Hostname())
	var all []candidate
	for _, name := range slices.Sorted(maps.Keys(set.Upstreams)) {
		for _, m := range set.Upstreams[name].Match {
			c := candidate{name: name}
			pattern, wanted, hasPort := strings.Cut(strings.ToLower(m.Host), ":")
			suffix, wild := strings.CutPrefix(pattern, "*")
			if !wild && pattern != host || wild && !strings.HasSuffix(host, suffix) || hasPort && wanted != port {
				continue
			}
			path := strings.TrimRight(m.Path, "/")
			if u.Path != path && !strings.HasPrefix(u.Path, path+"/") && path != "" {
				continue
			}
			if len(m.Methods) > 0 && !slices.Contains(m.Methods, method) {
				continue
			}
			c.ranks = [5]int{asInt(!wild), len(pattern), asInt(hasPort), len(path), asInt(len(m.Methods) > 0)}
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return slices.MaxFunc(all, func(a, b candidate) int { return slices.Compare(a.ranks[:], b.ranks[:]) }).name
}

func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// generated are random parts of sets and requests, of so few names that they
// meet.
type generated struct {
	name, port, path *rapid.Generator[string]
	match            *rapid.Generator[Match]
}

func generators() generated {
	label := rapid.SampledFrom([]string{"a", "b", "c"})
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(label, 1, 4).Draw(t, "labels"), ".")
	})
	port := rapid.SampledFrom([]string{"", "", ":80", ":443", ":8080"})
	path := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"x", "xx", "y"}), 0, 3).Draw(t, "segments"), "/")
	})
	match := rapid.Custom(func(t *rapid.T) Match {
		host := name.Draw(t, "host")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			host = "*"
		case 1, 2:
			host = "*." + host
		}
		return Match{
			Host:    host + port.Draw(t, "port"),
			Path:    path.Draw(t, "path"),
			Methods: rapid.SampledFrom([][]string{nil, nil, {"GET"}, {"POST"}, {"POST", "PUT"}}).Draw(t, "methods"),
		}
	})
	return generated{name, port, path, match}
}

// set draws one of so many upstreams.
func (g generated) set(t *rapid.T, upstreams int) *Set {
	set := &Set{Version: 1, Upstreams: map[string]Policy{}}
	for i, m := range rapid.SliceOfN(g.match, 0, 20).Draw(t, "matches") {
		name := fmt.Sprintf("u%d", i%upstreams)
		p := set.Upstreams[name]
		p.Match = append(p.Match, m)
		set.Upstreams[name] = p
		if _, err := Compile(set); err != nil {
			// A tie: this match cannot be in the set.
			p.Match = p.Match[:len(p.Match)-1]
			set.Upstreams[name] = p
		}
	}
	return set
}

// request draws a method and a URL.
func (g generated) request(t *rapid.T) (method string, u *url.URL) {
	u = &url.URL{
		Scheme: rapid.SampledFrom([]string{"http", "https"}).Draw(t, "scheme"),
		Host:   g.name.Draw(t, "host") + g.port.Draw(t, "port"),
		Path:   g.path.Draw(t, "path"),
	}
	return rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method"), u
}

func TestLookupAgreesWithModel(t *testing.T) {
	g := generators()
	rapid.Check(t, func(t *rapid.T) {
		set := g.set(t, 7)
		snapshot, err := Compile(set)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			method, u := g.request(t)
			got := ""
			if upstream := snapshot.Lookup(method, u); upstream != nil {
				got = upstream.Name
			}
			if want := naive(set, method, u); got != want {
				t.Fatalf("%s %s goes to %q, want %q", method, u, got, want)
			}
		}
	})
}
