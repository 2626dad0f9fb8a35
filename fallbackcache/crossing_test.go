package fallbackcache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// shape is one way of asking for the one page: who asks, and how that is said.
type shape struct {
	header        http.Header // as the caller wrote it
	added         http.Header // by the base, on the way
	part          string
	user          *url.Userinfo
	dialled, host string // in the URL, and the Host field if it is another
}

type partKey struct{}

func partOf(req *http.Request) string {
	part, _ := req.Context().Value(partKey{}).(string)
	return part
}

func (s shape) request(t testing.TB) *http.Request {
	req, err := http.NewRequestWithContext(context.WithValue(t.Context(), partKey{}, s.part), "GET", "http://"+s.dialled+"/page", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.User, req.Host = s.user, s.host
	req.Header = s.header.Clone()
	return req
}

// answer is what the upstream says to a request of this shape.
func (s shape) answer(t testing.TB, status int, body string, fields ...string) (*http.Request, *http.Response) {
	req := s.request(t)
	resp := response(t, req, status, body, fields...)
	if s.added != nil {
		resp.Request = s.request(t)
		for name, values := range s.added {
			resp.Request.Header[name] = values
		}
	}
	return req, resp
}

// whose says in words who asks, by what goes over the wire: the plain reading
// that the cache's keys are held to. Vary adds fields that are no credentials.
func (s shape) whose(vary string) string {
	if s.added != nil {
		return none // whose it is the base alone knows
	}
	host := s.host
	if host == "" {
		host = s.dialled
	}
	out := fmt.Sprintf("%s at %s, part %q, userinfo <%v>", host, s.dialled, s.part, s.user)
	names := make([]string, 0, len(s.header))
	for name := range s.header {
		names = append(names, name)
	}
	slices.Sort(names) // as net/http writes them
	for _, field := range []string{"Authorization", "Cookie", "X-Api-Key", "Accept"} {
		if field == "Accept" && !strings.Contains(vary, field) {
			continue
		}
		for _, name := range names {
			for _, value := range s.header[name] {
				if strings.EqualFold(name, field) {
					out += fmt.Sprintf(", %s: %q", field, value)
				}
			}
		}
	}
	return out
}

// shapes is every combination of what may tell two users apart.
func shapes() (all []shape) {
	authorizations := []http.Header{
		nil,
		{"Authorization": {"alice"}},
		{"Authorization": {"bob"}},
		{"Authorization": {"alice", "bob"}},
		{"Authorization": {"bob", "alice"}},
		{"Authorization": {"alic", "ebob"}},
		{"Authorization": {"alice", "carol"}},
		{"Authorization": {"alice, bob"}},
		{"Authorization": {""}},
		{"Authorization": {}},
		{"authorization": {"alice"}},
		{"Authorization": {"alice"}, "AUTHORIZATION": {"bob"}},
	}
	cookies := []http.Header{nil, {"Cookie": {"alice"}}, {"cookie": {"bob"}}}
	keys := []http.Header{nil, {"X-Api-Key": {"alice"}}}
	accepts := []http.Header{{"Accept": {"text/a"}}, {"Accept": {"alice"}}}
	added := []http.Header{nil, {"Authorization": {"base"}}, {"X-Api-Key": {"base"}}, {"cookie": {"base"}}}
	users := []*url.Userinfo{nil, url.User("alice"), url.UserPassword("alice", "s"), url.User("bob")}
	hosts := [][2]string{{"a.test", ""}, {"a.test", "b.test"}, {"b.test", ""}}
	for _, a := range authorizations {
		for _, c := range cookies {
			for _, k := range keys {
				for _, l := range accepts {
					h := http.Header{}
					for _, part := range []http.Header{a, c, k, l} {
						for name, values := range part {
							h[name] = values
						}
					}
					for _, part := range []string{"", "alice"} {
						for _, user := range users {
							for _, host := range hosts {
								for i, extra := range added {
									if i > 0 && (user != nil || part != "") {
										continue // the base adds to some of them
									}
									all = append(all, shape{h, extra, part, user, host[0], host[1]})
								}
							}
						}
					}
				}
			}
		}
	}
	return all
}

// Every user asks in every way, and each finds, fresh and stale, in memory and
// on disk, what was said to a request like its own, and nothing else.
func TestNoAnswerCrosses(t *testing.T) {
	places := []string{"memory", "shared memory"}
	if runtime.GOOS != "windows" {
		places = append(places, "disk", "disk after a restart")
	}
	for _, vary := range []string{"", "Accept", "Authorization, Cookie", "Accept, X-Api-Key, Authorization"} {
		for _, place := range places {
			t.Run(vary+"/"+place, func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				random := rand.New(rand.NewPCG(seed, 0))
				all := shapes()
				if strings.HasPrefix(place, "disk") { // some of them: the keys are the same ones
					random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
					all = all[:200]
				}
				cache := &Cache{Partition: partOf, MaxBytes: 1 << 30, Shared: place == "shared memory"}
				if strings.HasPrefix(place, "disk") {
					cache.Dir = t.TempDir()
				}
				fields := []string{"Cache-Control: public, max-age=60", `ETag: "1"`}
				if vary != "" {
					fields = append(fields, "Vary: "+vary)
				}
				for _, i := range random.Perm(len(all)) {
					req, resp := all[i].answer(t, 200, all[i].whose(vary), fields...)
					drain(t, cache.Keep(req, resp, start))
				}
				look := func(when string, now time.Time) {
					t.Helper()
					for _, i := range random.Perm(len(all)) {
						want := all[i].whose(vary)
						req := all[i].request(t)
						if all[i].added != nil {
							continue // it looks like one of the others to us; that one's answer is right
						}
						a, ok := cache.Find(req, time.Hour, now)
						if !ok {
							t.Fatalf("%s: %s: nothing is found", when, want)
						}
						resp := a.Response(req, Outcome{})
						if got := drain(t, resp); got != want {
							t.Fatalf("%s: %s\ngot what was said to\n%s", when, want, got)
						}
						if who := resp.Header.Get("X-Who"); who != "" && who != want {
							t.Fatalf("%s: %s\ngot the field that was said to\n%s", when, want, who)
						}
					}
				}
				look("fresh", start)
				if place == "disk after a restart" {
					cache = &Cache{Dir: cache.Dir, Partition: partOf}
				}
				look("stale", start.Add(2*time.Minute))
				// A 304 brings its fields to none but the answer it is about.
				for _, i := range random.Perm(len(all)) {
					req, resp := all[i].answer(t, 304, "", append(fields, "X-Who: "+all[i].whose(vary))...)
					req.Header["If-None-Match"] = []string{`"1"`}
					if resp.Request != req {
						resp.Request.Header["If-None-Match"] = []string{`"1"`}
					}
					cache.Keep(req, resp, start.Add(2*time.Minute))
				}
				look("confirmed", start.Add(2*time.Minute))
				if s := cache.Stats(); s.DiskErrors != 0 {
					t.Error(s.DiskError)
				}
			})
		}
	}
}
