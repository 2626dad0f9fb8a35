package policies

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A match that is said to add nothing can be left out: every request of a small
// world goes where it went.
func TestMatchesThatAddNothing(t *testing.T) {
	g := generators()
	var world []*url.URL
	for _, host := range []string{"a", "b", "a.a", "b.a", "a.b", "c.b.a", "b.c.b.a", "a.c.b.a", "x.a", "x.b.a", "x.c.b.a", "z"} {
		for _, port := range []string{":80", ":443", ":8080", ":9"} {
			for _, path := range []string{"/", "/x", "/xx", "/y", "/x/x", "/x/y", "/x/y/z", "/q"} {
				world = append(world, &url.URL{Scheme: "http", Host: host + port, Path: path})
			}
		}
	}
	told, kept := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		set := g.set(t, rapid.IntRange(1, 3).Draw(t, "upstreams"))
		snapshot, err := Compile(set)
		if err != nil {
			t.Fatal(err)
		}
		l := lint{snapshot: snapshot}
		for _, u := range snapshot.upstreams {
			l.name, l.p = u.Name, &u.Policy
			for i, m := range u.Policy.Match {
				host, _, _ := parseHost(m.Host)
				_, adds := l.covered(host, m, i)
				less := u.Policy
				less.Match = slices.Delete(slices.Clone(less.Match), i, i+1)
				without := &Set{Version: 1, Upstreams: map[string]Policy{}}
				for name, p := range set.Upstreams {
					without.Upstreams[name] = p
				}
				without.Upstreams[u.Name] = less
				other, err := Compile(without)
				if err != nil {
					t.Fatal(err)
				}
				differs := ""
				for _, r := range world {
					for _, method := range []string{"GET", "POST", "PUT", "PURGE"} {
						if was, is := nameOf(snapshot.Lookup(method, r)), nameOf(other.Lookup(method, r)); was != is {
							differs = fmt.Sprintf("%s %s goes to %q in place of %q", method, r, is, was)
						}
					}
				}
				if adds {
					told++
				} else {
					kept++
				}
				if adds && differs != "" {
					t.Fatalf("match %d of %s, %+v, is said to add nothing; without it %s\n%+v", i, u.Name, m, differs, set.Upstreams)
				}
			}
		}
	})
	if told == 0 || kept == 0 {
		t.Errorf("%d matches were said to add nothing, and of %d that was not said: the worlds are too plain", told, kept)
	}
}

func nameOf(u *Upstream) string {
	if u == nil {
		return ""
	}
	return u.Name
}

// Ten thousand upstreams are looked at in a moment.
func TestWarningsOfManyUpstreams(t *testing.T) {
	set := &Set{Version: 1, Upstreams: map[string]Policy{}}
	for i := range 10_000 {
		host := fmt.Sprintf("h%d.internal", i)
		set.Upstreams[fmt.Sprintf("u%d", i)] = Policy{
			Match:       []Match{{Host: host}, {Host: host, Path: "/v1"}},
			RetryBudget: &RetryBudget{Disabled: true},
		}
	}
	snapshot, err := Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	all := snapshot.Warnings()
	if len(all) != 20_000 || !strings.HasPrefix(all[0].String(), "warning: upstreams.u0") {
		t.Errorf("%d warnings, the first %v; want 20000", len(all), all[:min(1, len(all))])
	}
	if (*Snapshot)(nil).Warnings() != nil {
		t.Error("no set has warnings")
	}
}
