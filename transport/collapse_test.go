package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

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

// TestCollapseFailsNobody: whatever becomes of the call that leads, the others
// get their answers, and wait no longer than after.
func TestCollapseFailsNobody(t *testing.T) {
	const after = 2 * time.Second
	for _, c := range []struct {
		name   string
		leader answer
		use    func(t *testing.T, tr *Transport, req *http.Request) // what the leader does
		waited time.Duration
	}{
		{"cancelled", later(time.Hour, answer{}), func(t *testing.T, tr *Transport, req *http.Request) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if _, err := tr.RoundTrip(req.WithContext(ctx)); !errors.Is(err, context.Canceled) {
				t.Errorf("the leader got %v", err)
			}
		}, time.Second},
		{"panics", answer{do: func(*http.Request) (*http.Response, error) { time.Sleep(time.Second); panic("boom") }}, func(t *testing.T, tr *Transport, req *http.Request) {
			defer func() {
				if v := recover(); v != "boom" {
					t.Errorf("the leader recovered %v", v)
				}
			}()
			tr.RoundTrip(req)
		}, time.Second},
		{"fails", later(time.Second, answer{err: errReset}), func(t *testing.T, tr *Transport, req *http.Request) {
			if _, err := tr.RoundTrip(req); !errors.Is(err, errReset) {
				t.Errorf("the leader got %v", err)
			}
		}, time.Second},
		{"gets a failure", later(time.Second, answer{status: 503}), func(t *testing.T, tr *Transport, req *http.Request) {
			if resp, err := tr.RoundTrip(req); err != nil || resp.StatusCode != 503 {
				t.Errorf("the leader got %v, %v", resp, err)
			}
		}, time.Second},
		{"stalls", later(9*time.Second, answer{status: 503}), func(t *testing.T, tr *Transport, req *http.Request) { tr.RoundTrip(req) }, after},
		{"reads slowly", stored("max-age=60", "one"), func(t *testing.T, tr *Transport, req *http.Request) {
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Minute)
			read(t, resp)
		}, after},
		{"closes early", stored("max-age=60", "one"), func(t *testing.T, tr *Transport, req *http.Request) {
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Second)
			resp.Body.Close()
		}, time.Second},
		{"gets a body that breaks", answer{do: func(r *http.Request) (*http.Response, error) {
			resp, err := drip(1, time.Second, errReset)(r)
			resp.Header.Set("Cache-Control", "max-age=60")
			return resp, err
		}}, func(t *testing.T, tr *Transport, req *http.Request) {
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := freshOnly()
				p.Fallback.Stale.After = after
				tr, s := through(t, p, c.leader, later(300*time.Millisecond, stored("max-age=60", "two")))
				lead := request(t, "GET", nil)
				go c.use(t, tr, lead)
				synctest.Wait()
				for i, g := range crowd(t, tr, 9, nil) {
					if g.err != nil || g.body != "two" || g.took != c.waited+300*time.Millisecond || g.info.Served != FromUpstream {
						t.Errorf("caller %d: %+v, want its own answer after %v", i, g, c.waited)
					}
				}
				if s.count() != 10 {
					t.Errorf("%d calls", s.count())
				}
				time.Sleep(2 * time.Minute)
			})
		})
	}
}

// TestCollapseNewLeader: who comes when a call has been under way for longer
// than after waits for a later one, or leads it.
func TestCollapseNewLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), later(9*time.Second, stored("max-age=60", "one")), later(500*time.Millisecond, stored("max-age=60", "two")))
		go func() {
			resp, err := tr.RoundTrip(request(t, "GET", nil))
			if err == nil {
				read(t, resp)
			}
		}()
		time.Sleep(time.Second)
		for i, g := range crowd(t, tr, 9, nil) {
			if g.err != nil || g.body != "two" || g.took != 500*time.Millisecond {
				t.Errorf("caller %d: %+v", i, g)
			}
		}
		if s.count() != 2 {
			t.Errorf("%d calls", s.count())
		}
		time.Sleep(time.Minute)
	})
}

// TestFollowersOwnEnd: its context and its time count while it waits.
func TestFollowersOwnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := freshOnly()
		p.Fallback.Stale.After = time.Minute
		p.Timeout = &policies.Timeout{Attempt: 50 * time.Second, Total: 8 * time.Second}
		tr, s := through(t, p, later(7*time.Second, stored("max-age=60", "one")), later(time.Second, stored("max-age=60", "two")))
		why := errors.New("enough")
		all := crowd(t, tr, 5, func(i int, req *http.Request) *http.Request {
			ctx := req.Context()
			switch i {
			case 1:
				cancelled, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(time.Second, func() { cancel(why) })
				ctx = cancelled
			case 2: // half of its time for waiting, and half for a call
				limited, cancel := context.WithTimeout(ctx, 4*time.Second)
				time.AfterFunc(time.Minute, cancel)
				ctx = limited
			case 3:
				ended := make(chan struct{})
				time.AfterFunc(time.Second, func() { close(ended) })
				//lint:ignore SA1019 callers may still use it
				req.Cancel = ended
			}
			return req.WithContext(ctx)
		})
		for i, want := range []struct {
			body string
			took time.Duration
			err  error
		}{{"one", 7 * time.Second, nil}, {"", time.Second, why}, {"two", 3 * time.Second, nil}, {"", time.Second, errCancelled}, {"two", 5 * time.Second, nil}} {
			if g := all[i]; g.body != want.body || g.took != want.took || !errors.Is(g.err, want.err) {
				t.Errorf("caller %d: %+v, want %+v", i, g, want)
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

// TestCollapseAcrossAChange: who asks after a change does not get what was asked
// for before it.
func TestCollapseAcrossAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), later(900*time.Millisecond, stored("max-age=60", "before")), answer{status: 204}, later(300*time.Millisecond, stored("max-age=60", "after")))
		go func() {
			resp, err := tr.RoundTrip(request(t, "GET", nil))
			if err != nil || read(t, resp) != "before" {
				t.Errorf("the leader got %v, %v", resp, err)
			}
		}()
		synctest.Wait()
		if _, err := tr.RoundTrip(request(t, "PUT", nil)); err != nil {
			t.Fatal(err)
		}
		for i, g := range crowd(t, tr, 5, nil) {
			if g.err != nil || g.body != "after" {
				t.Errorf("caller %d: %+v", i, g)
			}
		}
		if s.count() != 7 {
			t.Errorf("%d calls", s.count())
		}
	})
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

// TestCollapseAtRandom: many callers, keys and ends at once, on real time. Each
// gets its own key's answer, whole, or its own error, and nothing stays behind.
func TestCollapseAtRandom(t *testing.T) {
	before := goleak.IgnoreCurrent()
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(time.Duration(rand.IntN(2000)) * time.Microsecond):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
		switch rand.IntN(12) {
		case 0:
			return nil, errReset
		case 1:
			panic("boom")
		case 2:
			return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		}
		control := []string{"max-age=60", "max-age=0, stale-while-revalidate=60", "no-store", "max-age=0"}[rand.IntN(4)]
		body := strings.Repeat(r.URL.Path+r.Header.Get("Authorization"), 100)
		return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {control}}, ContentLength: int64(len(body)), Request: r,
			Body: io.NopCloser(strings.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1}, nil
	})
	p := freshOnly()
	p.Fallback.Stale.After = 5 * time.Millisecond
	p.CircuitBreaker = &policies.CircuitBreaker{Disabled: true}
	tr := &Transport{Base: base, Policies: compile(t, named(p)), Agent: alone(t)}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 150 {
				oneOfMany(t, tr)
			}
		})
	}
	wg.Wait()
	goleak.VerifyNone(t, before)
}

// oneOfMany makes one call of TestCollapseAtRandom.
func oneOfMany(t *testing.T, tr *Transport) {
	path, user := fmt.Sprint("/", rand.IntN(3)), fmt.Sprint("user", rand.IntN(2))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if rand.IntN(4) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(1000))*time.Microsecond, cancel)
	}
	method := []string{"GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "PUT"}[rand.IntN(8)]
	req, err := http.NewRequestWithContext(ctx, method, host+path, nil)
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Authorization", user)
	defer func() {
		if v := recover(); v != nil && v != "boom" {
			t.Errorf("panicked: %v", v)
		}
	}()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if !errors.Is(err, errReset) && ctx.Err() == nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return
	}
	defer resp.Body.Close()
	if rand.IntN(8) == 0 {
		return // without reading
	}
	body, err := io.ReadAll(resp.Body)
	if want := strings.Repeat(path+user, 100); err == nil && method == "GET" && resp.StatusCode == 200 && string(body) != want {
		t.Errorf("%s for %s: got %d bytes %.40q", path, user, len(body), body)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestLateAcrossAChange: a call that goes on after its caller got a stale answer
// leads on, and what it asked for before a change is not stored after it.
func TestLateAcrossAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := once(policies.Policy{Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, ServeFresh: true}}})
		tr, _ := through(t, p, stored("max-age=60", "one"), later(5*time.Second, stored("max-age=60", "before")), answer{status: 204}, stored("max-age=60", "after"))
		giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
		time.Sleep(70 * time.Second)
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil || read(t, resp) != "one" {
			t.Fatalf("got %v, %v", resp, err)
		}
		time.Sleep(2 * time.Second)
		if _, err := tr.RoundTrip(request(t, "PUT", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		giving(t, tr, request(t, "GET", nil), "after", FromUpstream)
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

// TestLatePanicWhileReading: what a base does on a goroutine of ours does not end
// the process, in its bodies either.
func TestLatePanicWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s, later(2*time.Second, answer{do: func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(panicking{}), ContentLength: -1, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
		}}))
		events := watch(tr, Panicked)
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || read(t, resp) != "good" {
			t.Fatalf("got %v, %v", resp, err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if seen := events(); len(seen) != 1 || seen[0].Detail != "reading" {
			t.Errorf("told %+v", seen)
		}
	})
}
