package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// cacheable is an answer that may be stored, and is stale at once.
func cacheable(body string) answer {
	return answer{status: 200, body: body, header: http.Header{
		"Cache-Control": {"max-age=0"}, "Etag": {`"v"`}, "Content-Type": {"text/plain"}}}
}

func stale(after time.Duration) policies.Policy {
	return policies.Policy{
		Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, After: after}},
		Timeout:  &policies.Timeout{Attempt: 5 * time.Second},
	}
}

// fill fetches once, so that there is something to fall back to. It dates the
// answer by the clock of the bubble.
func fillCache(t *testing.T, tr *Transport, s *script, rest ...answer) {
	t.Helper()
	first := cacheable("good")
	first.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	s.answers = append([]answer{first}, rest...)
	resp, err := tr.RoundTrip(request(t, "GET", nil))
	if err != nil || read(t, resp) != "good" {
		t.Fatalf("filling the cache: %v, %v", resp, err)
	}
	time.Sleep(time.Minute)
}

func TestStaleAfterFirstFailure(t *testing.T) {
	for name, failed := range map[string]answer{"error": {err: errReset}, "503": {status: 503, body: "no"}, "500": {status: 500}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, stale(time.Second))
				fillCache(t, tr, s, failed)
				var info Info
				began := time.Now()
				req := request(t, "GET", nil)
				req = req.WithContext(WithInfo(req.Context(), &info))
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, resp); got != "good" || resp.StatusCode != 200 || resp.Request != req {
					t.Errorf("got %d %q", resp.StatusCode, got)
				}
				if info.Served != FromStale || info.Attempts != 1 || time.Since(began) != 0 {
					t.Errorf("info %+v after %v, want one attempt and no wait", info, time.Since(began))
				}
				mark := resp.Header.Get("Cache-Status")
				if !strings.Contains(mark, "fwd=stale") || failed.status != 0 && !strings.Contains(mark, "fwd-status=") {
					t.Errorf("Cache-Status %q", mark)
				}
				if resp.Header.Get("Age") != "60" {
					t.Errorf("Age %q", resp.Header.Get("Age"))
				}
			})
		})
	}
}

// TestStaleWhileSlow: after a second the stale answer is given, and the
// attempt goes on and refreshes the cache.
// TestFallbackStatuses: the policy says which statuses are answered like the
// upstream's silence, by a stale answer and by a fixed one.
func TestFallbackStatuses(t *testing.T) {
	for _, one := range []struct {
		name     string
		statuses []int // nil: the built-in ones
		status   int
		replaced bool
	}{
		{"built-in, 503", nil, 503, true},
		{"built-in, 429", nil, 429, false},
		{"built-in, 501", nil, 501, false},
		{"chosen, 429", []int{429, 503}, 429, true},
		{"chosen, 500", []int{429, 503}, 500, false},
		{"none, 503", []int{}, 503, false},
	} {
		t.Run(one.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := stale(time.Second)
				p.Fallback.Statuses = one.statuses
				p.Fallback.Static = &policies.Static{Body: "fixed"}
				for _, want := range []string{"fixed", "good"} {
					tr, s := through(t, once(p), answer{status: one.status, body: "theirs"})
					if want == "good" {
						fillCache(t, tr, s, answer{status: one.status, body: "theirs"})
					}
					if !one.replaced {
						want = "theirs"
					}
					resp, err := tr.RoundTrip(request(t, "GET", nil))
					if err != nil {
						t.Fatal(err)
					}
					if got := read(t, resp); got != want {
						t.Errorf("got %d %q, want %q", resp.StatusCode, got, want)
					}
				}
			})
		})
	}
}

func TestStaleWhileSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		better := cacheable("better")
		better.delay = 3 * time.Second
		fillCache(t, tr, s, better, answer{err: errReset})
		ctx, cancel := context.WithCancel(context.Background())
		began := time.Now()
		resp, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx))
		if err != nil || read(t, resp) != "good" || time.Since(began) != time.Second {
			t.Fatalf("got %v, %v after %v", resp, err, time.Since(began))
		}
		cancel() // the caller is gone; the attempt is not
		time.Sleep(3 * time.Second)
		synctest.Wait()
		resp, err = tr.RoundTrip(request(t, "GET", nil))
		if err != nil || read(t, resp) != "better" {
			t.Errorf("the late answer did not refresh the cache: %v, %v", resp, err)
		}
	})
}

// TestStaleHangStillTeachesTheCircuit: a hanging upstream is found out though
// nobody waits for it; then stale answers come at once.
func TestStaleHangStillTeachesTheCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stale(time.Second)
		p.CircuitBreaker = &policies.CircuitBreaker{ConsecutiveFailures: 1}
		tr, s := through(t, p)
		fillCache(t, tr, s, answer{status: 200, delay: time.Hour})
		tr.RoundTrip(request(t, "GET", nil))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		began := time.Now()
		var info Info
		req := request(t, "GET", nil)
		resp, err := tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info)))
		if err != nil || read(t, resp) != "good" || time.Since(began) != 0 {
			t.Fatalf("got %v, %v after %v", resp, err, time.Since(began))
		}
		if info.Breaker != "open" || info.Attempts != 0 || !strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
			t.Errorf("info %+v, Cache-Status %q", info, resp.Header.Get("Cache-Status"))
		}
	})
}

// TestStaleNotForACallerWhoLeft: its own error, not an answer.
func TestStaleNotForACallerWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(10*time.Second))
		fillCache(t, tr, s, answer{status: 200, delay: time.Hour})
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(why) })
		resp, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx))
		if resp != nil || !errors.Is(err, why) {
			t.Errorf("got %v, %v; want the caller's own reason", resp, err)
		}
		late, cancelLate := context.WithTimeout(context.Background(), time.Second)
		defer cancelLate()
		resp, err = tr.RoundTrip(request(t, "GET", nil).WithContext(late))
		if resp != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v; want the caller's deadline", resp, err)
		}
	})
}

// TestRaceWonByTheUpstream: its answer is streamed, and the caller's cancel
// still ends it.
func TestRaceWonByTheUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(10*time.Second))
		fillCache(t, tr, s, answer{do: drip(100, time.Second, nil)})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		resp, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(5500*time.Millisecond, cancel)
		data, err := io.ReadAll(resp.Body)
		if len(data) != 5 || !errors.Is(err, context.Canceled) {
			t.Errorf("read %d bytes and %v, want 5 and the cancellation", len(data), err)
		}
		resp.Body.Close()
	})
}

func TestRacePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s, answer{panics: "boom"}, answer{do: func(*http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second)
			panic("late")
		}})
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					t.Errorf("recovered %v", v)
				}
			}()
			tr.RoundTrip(request(t, "GET", nil))
		}()
		var late []string
		tr.Observe = func(e Event) {
			if e.Kind == Panicked {
				late = append(late, e.Detail)
			}
		}
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || read(t, resp) != "good" {
			t.Fatalf("got %v, %v", resp, err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(late) != 1 || late[0] != "late" {
			t.Errorf("events of late panics: %v", late)
		}
	})
}

func TestStatic(t *testing.T) {
	p := policies.Policy{
		Fallback: &policies.Fallback{Static: &policies.Static{Status: 203, Body: "[]", ContentType: "application/json", Headers: map[string]string{"x-a": "b"}}},
		Retry:    &policies.Retry{Disabled: true},
	}
	tr, s := through(t, p, answer{status: 503, body: "no"}, answer{err: errReset})
	for _, mark := range []string{"resagent; fwd=miss; fwd-status=503; detail=static", "resagent; fwd=miss; detail=static"} {
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		h := resp.Header
		if got := read(t, resp); got != "[]" || resp.StatusCode != 203 || h.Get("Content-Type") != "application/json" || h.Get("X-A") != "b" ||
			h.Get("Content-Length") != "2" || h.Get("Cache-Status") != mark {
			t.Errorf("got %d %q %v, want Cache-Status %q", resp.StatusCode, got, h, mark)
		}
	}
	if resp, err := tr.RoundTrip(request(t, "HEAD", nil)); err != nil || read(t, resp) != "" || resp.ContentLength != 2 {
		t.Errorf("HEAD: %v, %v", resp, err)
	}
	if resp, err := tr.RoundTrip(request(t, "POST", nil)); err == nil {
		t.Errorf("a failed POST was answered %d as if it had been done", resp.StatusCode)
	}
	s.answers = []answer{{status: 404, body: "none"}}
	if resp, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || resp.StatusCode != 404 || read(t, resp) != "none" {
		t.Errorf("404: %v, %v", resp, err)
	}
}

// TestStaticMethods: a fixed answer is for the methods that are written, else
// for the safe ones.
func TestStaticMethods(t *testing.T) {
	for _, c := range []struct {
		methods  []string
		answered string
	}{
		{nil, "GET HEAD OPTIONS TRACE"},
		{[]string{"GET"}, "GET"},
		{[]string{"POST", "PURGE"}, "POST PURGE"},
	} {
		tr, _ := through(t, policies.Policy{
			Fallback: &policies.Fallback{Static: &policies.Static{Methods: c.methods, Status: 202}},
			Retry:    &policies.Retry{Disabled: true},
		}, answer{err: errReset})
		for _, method := range []string{"GET", "", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE", "PURGE", "get"} {
			req := request(t, "GET", nil)
			req.Method = method
			resp, err := tr.RoundTrip(req)
			if method == "" {
				method = "GET"
			}
			if !slices.Contains(strings.Fields(c.answered), method) {
				if !errors.Is(err, errReset) {
					t.Errorf("%v: %s was answered (%v)", c.methods, method, err)
				}
				continue
			}
			if err != nil || resp.StatusCode != 202 {
				t.Errorf("%v: %s got %v, %v; want the fixed answer", c.methods, method, resp, err)
			}
		}
	}
}

// TestRaceEndedByTheBase: runtime.Goexit is a failure like any other.
func TestRaceEndedByTheBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s, answer{do: func(*http.Request) (*http.Response, error) {
			runtime.Goexit()
			return nil, nil
		}})
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || read(t, resp) != "good" {
			t.Errorf("got %v, %v", resp, err)
		}
	})
}

// TestUnsafeInvalidates: what a POST changed is not given as stale.
func TestUnsafeInvalidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s, answer{status: 204}, answer{err: errReset})
		if _, err := tr.RoundTrip(request(t, "POST", nil)); err != nil {
			t.Fatal(err)
		}
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, errReset) {
			t.Errorf("got %v, %v; want the error", resp, err)
		}
	})
}

// What the caller did wrong is not answered as if the upstream were down.
func TestNoFallbackForMistakes(t *testing.T) {
	for _, p := range []policies.Fallback{
		{Static: &policies.Static{Body: "fixed"}},
		{Stale: &policies.Stale{MaxStale: time.Hour}},
		{Stale: &policies.Stale{MaxStale: time.Hour, After: time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr, s := through(t, policies.Policy{Fallback: &p})
			if p.Stale != nil {
				fillCache(t, tr, s)
			}
			wrong := errors.New(`net/http: invalid header field name "a b"`)
			s.answers = append(s.answers, answer{err: wrong})
			if _, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, wrong) {
				t.Errorf("%+v: got %v, want the caller's mistake", p, err)
			}
		})
	}
	t.Run("a broken body", func(t *testing.T) {
		bad := errors.New("disk error")
		tr, _ := through(t, policies.Policy{Fallback: &policies.Fallback{Static: &policies.Static{Body: "fixed"}}}, answer{status: 200})
		if _, err := tr.RoundTrip(request(t, "OPTIONS", &tracked{Reader: &errReader{bad}})); !errors.Is(err, bad) {
			t.Errorf("got %v, want the body's own error", err)
		}
	})
}

// A call that was ended before it began is not sent beside a stale answer.
func TestNoRaceForTheCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s)
		sent := 0
		for range 100 {
			s.answers = append(s.answers, answer{do: func(req *http.Request) (*http.Response, error) {
				if err := req.Context().Err(); err != nil {
					return nil, err
				}
				sent++
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			}})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want the caller's own end", err)
			}
		}
		if sent != 0 {
			t.Errorf("%d of 100 calls were sent", sent)
		}
	})
}
