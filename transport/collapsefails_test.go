package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

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
