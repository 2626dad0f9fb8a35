package fallbackcache

import (
	"fmt"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is the cache as one would explain it: for each URI, user and language
// the last good answer, until the resource is changed.
type model map[asked]good

type asked struct{ uri, user, lang string }

type good struct {
	body    string
	arrived time.Time
	fresh   time.Duration
	never   bool // never stale
}

// Any sequence of exchanges, read to the end or not, by several users, gives
// what the model gives: no more, no less, and nobody else's.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cache, known, now, serial := new(Cache), model{}, start, 0
		draw := func() asked {
			return asked{
				uri:  rapid.SampledFrom([]string{"http://a.test/1", "http://a.test/2", "http://b.test/1"}).Draw(rt, "uri"),
				user: rapid.SampledFrom([]string{"", "alice", "bob"}).Draw(rt, "user"),
				lang: rapid.SampledFrom([]string{"", "de"}).Draw(rt, "lang"),
			}
		}
		fields := func(a asked) (out []string) {
			if a.user != "" {
				out = append(out, "Authorization: "+a.user)
			}
			if a.lang != "" {
				out = append(out, "Accept-Language: "+a.lang)
			}
			return out
		}
		rt.Repeat(map[string]func(*rapid.T){
			"fetch": func(rt *rapid.T) {
				a := draw()
				serial++
				body := fmt.Sprint(a, serial)
				status := rapid.SampledFrom([]int{200, 200, 404, 403, 302, 500, 503, 429}).Draw(rt, "status")
				control := rapid.SampledFrom([]string{"public", "max-age=10", "max-age=10, must-revalidate", "no-store", "no-cache", "max-age=10, stale-if-error=0"}).Draw(rt, "control")
				whole := rapid.Bool().Draw(rt, "whole")
				req := get(t, a.uri, fields(a)...)
				resp := cache.Keep(req, response(t, req, status, body, "Vary: Accept-Language", "Cache-Control: "+control), now)
				if whole {
					if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
						rt.Fatalf("the caller read %q, %v, want %q", got, err, body)
					}
				} else if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
					rt.Fatalf("reading one byte: %v", err)
				}
				resp.Body.Close()

				if status >= 429 {
					return
				}
				g := good{body: body, arrived: now}
				switch control {
				case "no-store", "no-cache":
					delete(known, a)
					return
				case "max-age=10":
					g.fresh = 10 * time.Second
				case "max-age=10, must-revalidate", "max-age=10, stale-if-error=0":
					g.fresh, g.never = 10*time.Second, true
				}
				switch {
				case status == 403:
					delete(known, a)
				case whole:
					known[a] = g
				}
			},
			"change": func(rt *rapid.T) {
				a := draw()
				status := rapid.SampledFrom([]int{200, 500}).Draw(rt, "status")
				req := request(t, "PUT", a.uri, fields(a)...)
				cache.Invalidate(req, response(t, req, status, ""))
				if status == 200 {
					for k := range known {
						if k.uri == a.uri {
							delete(known, k)
						}
					}
				}
			},
			"wait": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 30).Draw(rt, "seconds")) * time.Second)
			},
			"": func(rt *rapid.T) {
				const window = 20 * time.Second
				for _, uri := range []string{"http://a.test/1", "http://a.test/2", "http://b.test/1"} {
					for _, user := range []string{"", "alice", "bob"} {
						for _, lang := range []string{"", "de"} {
							a := asked{uri, user, lang}
							want := none
							if g, ok := known[a]; ok {
								age := now.Sub(g.arrived)
								if age < g.fresh || !g.never && age <= g.fresh+window {
									want = g.body
								}
							}
							if got := found(t, cache, now, window, get(t, uri, fields(a)...)); got != want {
								rt.Fatalf("%v at %v: %q, want %q", a, now.Sub(start), got, want)
							}
						}
					}
				}
			},
		})
		check(t, &cache.memory)
	})
}
