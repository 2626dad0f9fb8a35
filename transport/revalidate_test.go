package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

const swr = "max-age=60, stale-while-revalidate=30"

// watch collects the events of some kinds.
func watch(tr *Transport, kinds ...Kind) func() []Event {
	var mu sync.Mutex
	var seen []Event
	tr.Observe = func(e Event) {
		for _, k := range kinds {
			if e.Kind == k {
				mu.Lock()
				seen = append(seen, e)
				mu.Unlock()
			}
		}
	}
	return func() []Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]Event(nil), seen...)
	}
}

// giving makes one call, and wants this answer at once.
func giving(t *testing.T, tr *Transport, req *http.Request, want string, source Source) *http.Response {
	t.Helper()
	var info Info
	began := time.Now()
	resp, err := tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info)))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, resp); got != want || info.Served != source || time.Since(began) != 0 {
		t.Fatalf("got %q from %q after %v, want %q from %q at once", got, info.Served, time.Since(began), want, source)
	}
	return resp
}

// TestRevalidated: RFC 5861, section 3. Within the window callers get what is
// stored at once, and one call asks for it anew, with its validator, whatever
// becomes of the caller.
func TestRevalidated(t *testing.T) {
	for name, said := range map[string]answer{
		"304": {status: 304, delay: 2 * time.Second, header: http.Header{"Etag": {`"one"`}}},
		"200": {do: func(r *http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second)
			return stored(swr, "two").do(r)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, freshOnly(), stored(swr, "one"), said)
				events := watch(tr, Revalidated)
				giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
				time.Sleep(70 * time.Second)
				type key struct{}
				ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "span"))
				for range 5 {
					resp := giving(t, tr, request(t, "GET", nil).WithContext(ctx), "one", FromRevalidating)
					if mark := resp.Header.Get("Cache-Status"); mark != "resagent; hit; ttl=-10" {
						t.Errorf("Cache-Status %q", mark)
					}
				}
				cancel()
				synctest.Wait()
				if s.count() != 2 || s.calls[1].header.Get("If-None-Match") != `"one"` {
					t.Fatalf("%d calls, the second asked with %q", s.count(), s.calls[1].header)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				want := map[string]string{"304": "one", "200": "two"}[name]
				giving(t, tr, request(t, "GET", nil), want, FromFresh)
				seen := events()
				if len(seen) != 1 || fmt.Sprint(seen[0].Status) != name || seen[0].Detail != "refreshed" || seen[0].Took != 2*time.Second || seen[0].Context.Value(key{}) != "span" {
					t.Errorf("told %+v", seen)
				}
				if n := tr.cache().Stats().Revalidations; n != 1 || s.count() != 2 {
					t.Errorf("%d revalidations counted, %d calls", n, s.count())
				}
			})
		})
	}
}

// TestNotRevalidated: what is beyond the window, a HEAD, and a request without
// network.
func TestNotRevalidated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), stored(swr, "one"), answer{status: 404}, stored(swr, "three"))
		giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
		time.Sleep(70 * time.Second)
		req := request(t, "GET", nil)
		req.Header.Set("Cache-Control", "only-if-cached")
		giving(t, tr, req, "one", FromRevalidating)
		synctest.Wait()
		if s.count() != 1 {
			t.Fatalf("only-if-cached made %d calls", s.count()-1)
		}
		giving(t, tr, request(t, "HEAD", nil), "", FromUpstream)
		time.Sleep(60 * time.Second)
		giving(t, tr, request(t, "GET", nil), "three", FromUpstream)
		if s.count() != 3 {
			t.Errorf("%d calls, want 3", s.count())
		}
	})
}

// TestRevalidationOfAnothersCopy: the caller's own conditions are answered from
// what is stored, and are not those of the call in the background.
func TestRevalidationOfAnothersCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), stored(swr, "one"), stored(swr, "two"))
		giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
		time.Sleep(70 * time.Second)
		req := request(t, "GET", nil)
		req.Header[strings.ToLower("If-None-Match")] = []string{`"one"`}
		req.Header.Set("If-Modified-Since", time.Now().UTC().Format(http.TimeFormat))
		if resp := giving(t, tr, req, "", FromRevalidating); resp.StatusCode != 304 {
			t.Errorf("the caller got %d", resp.StatusCode)
		}
		synctest.Wait()
		h := s.calls[1].header
		if fmt.Sprint(h["If-None-Match"], h[strings.ToLower("If-None-Match")], h["If-Modified-Since"]) != `["one"] [] []` {
			t.Errorf("asked with %v", h)
		}
		giving(t, tr, request(t, "GET", nil), "two", FromFresh)
	})
}

// TestRevalidationsTime: the policy's timeouts end one, also while it reads, and
// a minute does where there is none. The next caller begins another.
func TestRevalidationsTime(t *testing.T) {
	never := answer{status: 200, delay: time.Hour}
	dripping := answer{do: drip(3600, time.Second, nil)}
	for _, c := range []struct {
		name    string
		timeout *policies.Timeout
		said    answer
		took    time.Duration
		err     error
	}{
		{"no headers, attempt", &policies.Timeout{Attempt: 5 * time.Second, Total: policies.None}, never, 5 * time.Second, ErrAttemptTimeout},
		{"no headers, total", &policies.Timeout{Attempt: policies.None, Total: 7 * time.Second}, never, 7 * time.Second, ErrTotalTimeout},
		{"no headers, none", &policies.Timeout{Attempt: policies.None, Total: policies.None}, never, time.Minute, context.Canceled},
		{"no headers, a long attempt", &policies.Timeout{Attempt: 5 * time.Minute, Total: policies.None}, never, time.Minute, context.Canceled},
		{"no end, total", &policies.Timeout{Attempt: policies.None, Total: 7 * time.Second}, dripping, 7 * time.Second, nil},
		{"no end, none", &policies.Timeout{Attempt: 5 * time.Second, Total: policies.None}, dripping, time.Minute, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := freshOnly()
				p.Timeout = c.timeout
				tr, s := through(t, p, stored("max-age=60, stale-while-revalidate=600", "one"), c.said)
				events := watch(tr, Revalidated)
				giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
				time.Sleep(70 * time.Second)
				for round := range 2 {
					giving(t, tr, request(t, "GET", nil), "one", FromRevalidating)
					time.Sleep(c.took - 1)
					synctest.Wait()
					if n := len(events()); n != round {
						t.Fatalf("%d were over before their time", n-round)
					}
					time.Sleep(time.Nanosecond)
					synctest.Wait()
					seen := events()
					if len(seen) != round+1 || seen[round].Took != c.took || seen[round].Detail != "not refreshed" || !errors.Is(seen[round].Err, c.err) {
						t.Fatalf("told %+v", seen)
					}
				}
				if s.count() != 3 {
					t.Errorf("%d calls", s.count())
				}
			})
		})
	}
}

// TestRevalidationsBound: no more than 64 at a time.
func TestRevalidationsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 64
		slow := false
		tr, s := through(t, freshOnly(), answer{do: func(r *http.Request) (*http.Response, error) {
			if slow {
				time.Sleep(time.Second)
			}
			return stored(swr, "one").do(r)
		}})
		events := watch(tr, Revalidated)
		ask := func(n int) *http.Request {
			req, err := http.NewRequest("GET", fmt.Sprint(host, "/", n), nil)
			if err != nil {
				t.Fatal(err)
			}
			return req
		}
		for n := range most + 2 {
			giving(t, tr, ask(n), "one", FromUpstream)
		}
		time.Sleep(70 * time.Second)
		slow = true
		for n := range most + 2 {
			giving(t, tr, ask(n), "one", FromRevalidating)
		}
		synctest.Wait()
		if s.count() != most+2+most || len(events()) != 2 || !strings.HasPrefix(events()[0].Detail, "not begun") {
			t.Errorf("%d begun, told %+v", s.count()-most-2, events())
		}
		if got := tr.cache().Stats(); got.Revalidations != most || got.RevalidationsDropped != 2 {
			t.Errorf("counted %+v", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		giving(t, tr, ask(most), "one", FromRevalidating) // tried again
		time.Sleep(time.Second)
		synctest.Wait()
		giving(t, tr, ask(most), "one", FromFresh)
	})
}

// TestRevalidationPanics: what the base does on a goroutine of ours does not end
// the process, and the next caller begins another.
func TestRevalidationPanics(t *testing.T) {
	broken := func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Cache-Control": {swr}}
		return &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(panicking{}), ContentLength: -1, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), stored(swr, "one"), answer{panics: "boom"}, answer{do: broken}, answer{do: func(*http.Request) (*http.Response, error) {
			runtime.Goexit()
			return nil, nil
		}}, answer{err: errReset}, answer{status: 503, body: "no"}, stored(swr, "two"))
		events := watch(tr, Panicked, Revalidated)
		giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
		time.Sleep(70 * time.Second)
		for range 6 {
			giving(t, tr, request(t, "GET", nil), "one", FromRevalidating)
			synctest.Wait()
		}
		giving(t, tr, request(t, "GET", nil), "two", FromFresh)
		var told []string
		for _, e := range events() {
			told = append(told, fmt.Sprint(e.Kind, "/", e.Detail, "/", e.Status, "/", e.Err))
		}
		want := []string{
			"base panicked/boom/0/<nil>", "revalidated/not refreshed/0/<nil>",
			"base panicked/reading/0/<nil>", "revalidated/not refreshed/200/<nil>",
			"revalidated/not refreshed/0/" + errNeither.Error(),
			"revalidated/not refreshed/0/" + errReset.Error(),
			"revalidated/not refreshed/503/<nil>",
			"revalidated/refreshed/200/<nil>",
		}
		if strings.Join(told, "\n") != strings.Join(want, "\n") {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
		}
		if s.count() != 7 {
			t.Errorf("%d calls", s.count())
		}
	})
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("reading") }

// TestRevalidationPassesTheLayers: it is a call like any other, and neither
// retried nor hedged.
func TestRevalidationPassesTheLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := freshOnly()
		p.Retry = &policies.Retry{MaxAttempts: 3}
		p.Hedge = &policies.Hedge{Delay: time.Second, MaxExtraLoad: 1}
		p.CircuitBreaker = &policies.CircuitBreaker{ConsecutiveFailures: 2, OpenFor: 20 * time.Second}
		tr, s := through(t, p, stored("max-age=60, stale-while-revalidate=600", "one"), answer{status: 503, body: "no", delay: 3 * time.Second})
		events := watch(tr, Refused, CircuitOpened, Hedged, Retrying)
		giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
		time.Sleep(70 * time.Second)
		for range 4 {
			giving(t, tr, request(t, "GET", nil), "one", FromRevalidating)
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}
		var kinds []Kind
		for _, e := range events() {
			kinds = append(kinds, e.Kind)
		}
		if got := fmt.Sprint(kinds); s.count() != 3 || got != "[circuit opened refused refused]" {
			t.Errorf("%d calls, told %s; want 3 calls, then an open circuit", s.count(), got)
		}
	})
}

// TestRevalidationAcrossAChange: what was asked for before a change is not
// stored after it.
func TestRevalidationAcrossAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, freshOnly(), stored(swr, "one"), answer{do: func(r *http.Request) (*http.Response, error) {
			resp, err := stored(swr, "before the change").do(r)
			time.Sleep(2 * time.Second)
			return resp, err
		}}, answer{status: 204}, stored(swr, "after the change"))
		giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
		time.Sleep(70 * time.Second)
		giving(t, tr, request(t, "GET", nil), "one", FromRevalidating)
		synctest.Wait()
		if _, err := tr.RoundTrip(request(t, "PUT", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		giving(t, tr, request(t, "GET", nil), "after the change", FromUpstream)
		if s.count() != 4 {
			t.Errorf("%d calls", s.count())
		}
	})
}

// TestRevalidationTooLarge: it is read within the cache's bounds, and given up.
func TestRevalidationTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := strings.Repeat("x", lateMost+1000)
		tr, s := through(t, freshOnly(), stored(swr, "one"), answer{do: func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {swr}}, ContentLength: -1, Request: r, ProtoMajor: 1, ProtoMinor: 1,
				Body: io.NopCloser(strings.NewReader(large))}, nil
		}})
		tr.Cache = &fallbackcache.Cache{MaxObject: 1000}
		events := watch(tr, Revalidated)
		giving(t, tr, request(t, "GET", nil), "one", FromUpstream)
		time.Sleep(70 * time.Second)
		giving(t, tr, request(t, "GET", nil), "one", FromRevalidating)
		synctest.Wait()
		if seen := events(); len(seen) != 1 || seen[0].Detail != "not refreshed" || s.count() != 2 {
			t.Errorf("%d calls, told %+v", s.count(), seen)
		}
		giving(t, tr, request(t, "GET", nil), "one", FromRevalidating)
		synctest.Wait()
	})
}
