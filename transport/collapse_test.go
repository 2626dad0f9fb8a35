package transport

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// got is what one of many callers came to.
type got struct {
	body, mark string
	status     int
	err        error
	info       Info
	took       time.Duration
}

// crowd makes n calls at the same time and waits for all; change may change
// each request.
func crowd(t *testing.T, tr *Transport, n int, change func(i int, req *http.Request) *http.Request) []got {
	t.Helper()
	all := make([]got, n)
	var wg sync.WaitGroup
	for i := range n {
		req := request(t, "GET", nil)
		if change != nil {
			req = change(i, req)
		}
		g := &all[i]
		req = req.WithContext(WithInfo(req.Context(), &g.info))
		wg.Go(func() {
			began := time.Now()
			defer func() {
				if v := recover(); v != nil {
					g.err = fmt.Errorf("panic: %v", v)
				}
				g.took = time.Since(began)
			}()
			resp, err := tr.RoundTrip(req)
			if err != nil {
				g.err = err
				return
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			g.body, g.err, g.status, g.mark = string(body), err, resp.StatusCode, resp.Header.Get("Cache-Status")
		})
		synctest.Wait() // so that the first is the one that leads
	}
	wg.Wait()
	return all
}

// later has an answer come after a while.
func later(d time.Duration, a answer) answer {
	return answer{do: func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		return (&script{answers: []answer{a}}).RoundTrip(r)
	}}
}

// TestCollapse: RFC 9111, section 4, and RFC 9211, section 2.7. Of simultaneous
// calls for the same one is made.
func TestCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), later(500*time.Millisecond, stored("max-age=60", "one")))
		events := watch(tr, Collapsed)
		all := crowd(t, tr, 50, nil)
		for i, g := range all {
			source, mark, attempts, waited := FromCollapsed, "resagent; fwd=miss; collapsed; ttl=59", 0, 500*time.Millisecond
			if i == 0 {
				source, mark, attempts, waited = FromUpstream, "", 1, 0
			}
			if g.err != nil || g.body != "one" || g.took != 500*time.Millisecond || g.mark != mark ||
				g.info.Served != source || g.info.Attempts != attempts || g.info.Waited != waited {
				t.Errorf("caller %d: %+v", i, g)
			}
		}
		if s.count() != 1 || len(events()) != 49 || events()[0].Wait != 500*time.Millisecond || tr.cache().Stats().Collapsed != 49 {
			t.Errorf("%d calls, told %d, counted %+v", s.count(), len(events()), tr.cache().Stats())
		}
	})
}

// TestNotCollapsed: an answer that is not for the others is got by each, and for
// a while nobody waits for another's.
func TestNotCollapsed(t *testing.T) {
	header := func(fields ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(fields); i += 2 {
			h.Set(fields[i], fields[i+1])
		}
		return h
	}
	for name, said := range map[string]answer{
		"no-store":           {status: 200, body: "x", header: header("Cache-Control", "no-store")},
		"no-cache":           {status: 200, body: "x", header: header("Cache-Control", "no-cache")},
		"nothing stated":     {status: 200, body: "x"},
		"stale at once":      {status: 200, body: "x", header: header("Cache-Control", "max-age=0")},
		"old":                {status: 200, body: "x", header: header("Cache-Control", "max-age=60", "Age", "60")},
		"varies by anything": {status: 200, body: "x", header: header("Cache-Control", "max-age=60", "Vary", "*")},
		"not this user":      {status: 403, body: "x", header: header("Cache-Control", "max-age=60")},
		"a mistake":          {status: 400, body: "x", header: header("Cache-Control", "max-age=60")},
		"too large":          {status: 200, body: strings.Repeat("x", 101), header: header("Cache-Control", "max-age=60")},
		"too large, unknown": {do: func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: header("Cache-Control", "max-age=60"), ContentLength: -1, Request: r, ProtoMajor: 1, ProtoMinor: 1,
				Body: io.NopCloser(strings.NewReader(strings.Repeat("x", 101)))}, nil
		}},
		"an event stream": {status: 200, body: "x", header: header("Cache-Control", "max-age=60", "Content-Type", "text/event-stream")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, freshOnly(), later(300*time.Millisecond, said))
				tr.Cache = &fallbackcache.Cache{MaxObject: 100}
				for round, want := range []time.Duration{600 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond} {
					for i, g := range crowd(t, tr, 10, nil) {
						if i == 0 {
							want := min(want, 300*time.Millisecond)
							if g.took != want {
								t.Errorf("round %d: the first took %v, want %v", round, g.took, want)
							}
						} else if g.took != want || g.info.Served != FromUpstream || g.info.Attempts != 1 {
							t.Errorf("round %d, caller %d: %+v, want its own answer after %v", round, i, g, want)
						}
					}
				}
				if s.count() != 30 {
					t.Errorf("%d calls, want one for each caller", s.count())
				}
				time.Sleep(10 * time.Second) // one finds out again, and nobody waits
				for i, g := range crowd(t, tr, 3, nil) {
					if g.took != 300*time.Millisecond {
						t.Errorf("after a while caller %d took %v", i, g.took)
					}
				}
			})
		})
	}
}

// TestCollapsedAgain: a key whose answers have become good for all is found out.
func TestCollapsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), answer{status: 200, body: "x", header: http.Header{"Cache-Control": {"no-store"}}}, stored("max-age=1", "one"), later(300*time.Millisecond, stored("max-age=60", "two")))
		giving(t, tr, request(t, "GET", nil), "x", FromUpstream)
		time.Sleep(10 * time.Second)
		giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
		time.Sleep(time.Second)
		for i, g := range crowd(t, tr, 9, nil) {
			if g.err != nil || g.body != "two" || i > 0 && g.info.Served != FromCollapsed {
				t.Errorf("caller %d: %+v", i, g)
			}
		}
		if s.count() != 3 {
			t.Errorf("%d calls", s.count())
		}
	})
}

// TestCollapseKeepsApart: what differs in who asks, or in what an answer usually
// varies by, is not waited for at all; what it varies by beyond that, once.
func TestCollapseKeepsApart(t *testing.T) {
	each := func(vary string) answer {
		return later(300*time.Millisecond, answer{do: func(r *http.Request) (*http.Response, error) {
			body := r.Header.Get("Authorization") + r.Header.Get("Accept") + r.Header.Get("X-Kind") + r.Header.Get("X-Part") + r.URL.Host
			h := http.Header{"Cache-Control": {"max-age=60"}, "Vary": {vary}}
			return (&script{answers: []answer{{status: 200, body: body, header: h}}}).RoundTrip(r)
		}})
	}
	for _, c := range []struct {
		name, field, vary string
		rounds            []time.Duration // how long the others take
	}{
		{"credentials", "Authorization", "", []time.Duration{300, 300}},
		{"partition", "X-Part", "", []time.Duration{300, 300}},
		{"what answers vary by", "Accept", "Accept", []time.Duration{300, 300}},
		{"what they rarely vary by", "X-Kind", "X-Kind", []time.Duration{600, 300}},
		{"server", "", "", []time.Duration{300, 300}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: []answer{each(c.vary)}}
				p := freshOnly()
				p.Match = []policies.Match{{Host: "*.upstream.test"}, {Host: "upstream.test"}}
				set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"upstream": p}})
				if err != nil {
					t.Fatal(err)
				}
				tr := &Transport{Base: s, Policies: set, Agent: alone(t),
					Cache: &fallbackcache.Cache{Partition: func(r *http.Request) string { return r.Header.Get("X-Part") }}}
				for round, took := range c.rounds {
					serial := 0
					all := crowd(t, tr, 6, func(i int, req *http.Request) *http.Request {
						serial++
						value := fmt.Sprint("v", round, serial)
						if c.field == "" {
							req.Host, req.URL.Host = "upstream.test", value+".upstream.test"
						} else {
							req.Header.Set(c.field, value)
						}
						return req
					})
					for i, g := range all {
						want := fmt.Sprint("v", round, i+1)
						if c.field == "" {
							want += ".upstream.test"
						} else {
							want += "upstream.test"
						}
						if g.err != nil || g.body != want || g.info.Served != FromUpstream {
							t.Errorf("round %d, caller %d: %+v, want its own answer %q", round, i, g, want)
						}
						if i > 0 && g.took != took*time.Millisecond {
							t.Errorf("round %d, caller %d took %v, want %v", round, i, g.took, took*time.Millisecond)
						}
					}
				}
			})
		})
	}
}

// TestCollapsedRevalidation: what is stored and stale is asked about once, and
// given to those who may have it when the answer takes too long.
func TestCollapsedRevalidation(t *testing.T) {
	unchanged := answer{status: 304, header: http.Header{"Etag": {`"one"`}}}
	for name, delay := range map[string]time.Duration{"in time": 500 * time.Millisecond, "late": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := once(policies.Policy{Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, ServeFresh: true}}})
				tr, s := through(t, p, stored("max-age=60", "one"), later(delay, unchanged))
				giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
				time.Sleep(70 * time.Second)
				for i, g := range crowd(t, tr, 9, nil) {
					want, mark, took := FromCollapsed, "resagent; fwd=stale; collapsed; ttl=59", delay
					if i == 0 {
						want, mark = FromConfirmed, "resagent; fwd=stale; fwd-status=304; ttl=60"
					}
					if delay > time.Second {
						want, took, mark = FromStale, time.Second, "resagent; fwd=stale; ttl=-11"
						if i > 0 {
							mark = "resagent; hit; ttl=-11" // it did not ask
						}
					}
					if g.err != nil || g.body != "one" || g.info.Served != want || g.mark != mark || g.took != took {
						t.Errorf("caller %d: %+v, want it from %s after %v, %s", i, g, want, took, mark)
					}
				}
				if s.count() != 2 || s.calls[1].header.Get("If-None-Match") != `"one"` {
					t.Errorf("%d calls", s.count())
				}
				time.Sleep(time.Minute)
				synctest.Wait()
			})
		})
	}
}

// TestCollapseHeadAndOthers: neither wait nor are waited for.
func TestCollapseHeadAndOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), later(500*time.Millisecond, stored("max-age=60", "one")))
		crowd(t, tr, 8, func(i int, req *http.Request) *http.Request {
			switch i {
			case 0:
				req.Header.Set("If-None-Match", `"mine"`) // its 304 would be its own: it does not lead
			case 2:
				req.Method = "HEAD"
			case 3:
				req.Header.Set("Range", "bytes=0-1")
			case 4:
				req.Header.Set("Cache-Control", "no-cache")
			case 5:
				req.Header.Set("Accept", "text/event-stream")
			case 6:
				req.Header.Set("Cache-Control", "max-age=10")
			case 7:
				req.Header.Set("If-None-Match", `"one"`) // it may follow
			}
			return req
		})
		if s.count() != 7 {
			t.Errorf("%d calls, want 7: one of 8 can wait for another", s.count())
		}
	})
}

// TestCollapseWithinTheWindow: an answer that is stale at once does for all, if
// it may be given stale.
func TestCollapseWithinTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), answer{do: func(r *http.Request) (*http.Response, error) {
			resp, err := drip(3, 100*time.Millisecond, nil)(r)
			resp.Header.Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
			return resp, err
		}})
		for i, g := range crowd(t, tr, 9, nil) {
			if g.err != nil || len(g.body) != 3 || i > 0 && g.info.Served != FromCollapsed {
				t.Errorf("caller %d: %+v", i, g)
			}
		}
		if s.count() != 1 {
			t.Errorf("%d calls", s.count())
		}
	})
}

// TestCollapsedInVain: what must be asked about each time is asked about by each,
// and waited for once at most.
func TestCollapsedInVain(t *testing.T) {
	for control, waits := range map[string]bool{"max-age=0": false, "no-cache": false, "max-age=60": true} {
		t.Run(control, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				unchanged := answer{status: 304, header: http.Header{"Etag": {`"one"`}, "Age": {"60"}}}
				tr, s := through(t, freshOnly(), stored(control, "one"), later(300*time.Millisecond, unchanged))
				giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
				time.Sleep(time.Minute)
				for round := range 2 {
					for i, g := range crowd(t, tr, 5, nil) {
						want := 300 * time.Millisecond
						if waits && round == 0 && i > 0 {
							want *= 2
						}
						if g.err != nil || g.body != "one" || g.info.Served != FromConfirmed || g.took != want {
							t.Errorf("round %d, caller %d: %+v, want it after %v", round, i, g, want)
						}
					}
				}
				if s.count() != 11 {
					t.Errorf("%d calls", s.count())
				}
			})
		})
	}
}
