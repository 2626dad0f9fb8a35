package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

const slow = 50 * time.Millisecond // the delay of hedges here

// hedging is a policy that hedges every call; without a breaker unless the
// test is about it.
func hedging() policies.Policy {
	return policies.Policy{Hedge: &policies.Hedge{Delay: slow, MaxExtraLoad: 1}}
}

// hedged makes one call of a policy that hedges.
type hedgeCase struct {
	info   Info
	took   time.Duration
	events []string
	body   string
	resp   *http.Response
	err    error
}

func hedgeCall(t *testing.T, tr *Transport, req *http.Request) (h hedgeCase) {
	t.Helper()
	events := make(chan string, 100) // from two goroutines
	tr.Observe = func(e Event) { events <- fmt.Sprint(e.Kind) }
	tr.warm(req)
	began := time.Now()
	h.resp, h.err = tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &h.info)))
	h.took = time.Since(began)
	if h.err == nil {
		h.body = read(t, h.resp)
	}
	time.Sleep(5 * time.Second) // for what the other attempt does
	synctest.Wait()
	close(events)
	for e := range events {
		h.events = append(h.events, e)
	}
	tr.Observe = nil
	return h
}

// warm gives the upstream of req one hedge to spend.
func (t *Transport) warm(req *http.Request) {
	s := t.session()
	up, _ := t.find(s, t.tableFor(s), req, time.Now())
	up.hedges.earn(1)
}

func TestHedge(t *testing.T) {
	bad := answer{status: 503, body: "bad"}
	at := func(a answer, d time.Duration) answer { a.delay = d; return a }
	good := func(body string, d time.Duration) answer { return answer{status: 200, body: body, delay: d} }
	for _, tc := range []struct {
		name     string
		answers  []answer
		body     string
		err      error
		took     time.Duration
		attempts int
		hedged   bool
		won      bool
		stopped  string
	}{
		{name: "quick enough", answers: []answer{good("first", slow-1)}, body: "first", took: slow - 1, attempts: 1},
		{name: "second wins", answers: []answer{good("first", time.Second), good("second", 10*time.Millisecond)},
			body: "second", took: slow + 10*time.Millisecond, attempts: 2, hedged: true, won: true},
		{name: "first wins", answers: []answer{good("first", slow+5*time.Millisecond), good("second", time.Second)},
			body: "first", took: slow + 5*time.Millisecond, attempts: 2, hedged: true},
		{name: "second fails first", answers: []answer{good("first", 200*time.Millisecond), at(bad, 10*time.Millisecond)},
			body: "first", took: 200 * time.Millisecond, attempts: 2, hedged: true},
		{name: "first fails first", answers: []answer{at(bad, 60*time.Millisecond), good("second", 100*time.Millisecond)},
			body: "second", took: 150 * time.Millisecond, attempts: 2, hedged: true, won: true},
		{name: "both fail", answers: []answer{at(bad, 60*time.Millisecond), {status: 502, body: "worse", delay: 100 * time.Millisecond}, good("third", 0)},
			body: "worse", took: 150 * time.Millisecond, attempts: 2, hedged: true, stopped: "it was hedged"},
		{name: "response and error", answers: []answer{at(bad, 60*time.Millisecond), {err: errReset, delay: 100 * time.Millisecond}, good("third", 0)},
			body: "bad", took: 150 * time.Millisecond, attempts: 2, hedged: true, stopped: "it was hedged"},
		{name: "two errors", answers: []answer{{err: errOther, delay: 60 * time.Millisecond}, {err: errReset, delay: 100 * time.Millisecond}, good("third", 0)},
			err: errReset, took: 150 * time.Millisecond, attempts: 2, hedged: true, stopped: "it was hedged"},
		{name: "failed before the hedge is retried, and not hedged", answers: []answer{at(bad, 10*time.Millisecond), good("retry", time.Second)},
			body: "retry", took: 10*time.Millisecond + 25*time.Millisecond + time.Second, attempts: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, hedging(), tc.answers...)
				req := request(t, "GET", nil)
				h := hedgeCall(t, tr, req)
				if !errors.Is(h.err, tc.err) || h.body != tc.body || h.took != tc.took {
					t.Errorf("got %q, %v after %v; want %q, %v after %v", h.body, h.err, h.took, tc.body, tc.err, tc.took)
				}
				if h.info.Attempts != tc.attempts || s.count() != tc.attempts || h.info.Hedged != tc.hedged ||
					h.info.HedgeWon != tc.won || h.info.Stopped != tc.stopped {
					t.Errorf("%d sent, info %+v", s.count(), h.info)
				}
				if slices.Contains(h.events, "hedged") != tc.hedged {
					t.Errorf("events %v", h.events)
				}
				if h.err == nil && h.resp.Request.URL != req.URL {
					t.Error("resp.Request is not the caller's")
				}
			})
		})
	}
}

// TestHedgeCancelsTheLoser: its context ends at once and says why.
func TestHedgeCancelsTheLoser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		var after time.Duration
		began := time.Now()
		hangs := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			cause, after = context.Cause(req.Context()), time.Since(began)
			return nil, req.Context().Err()
		}
		tr, _ := through(t, hedging(), answer{do: hangs}, answer{status: 200, body: "second", delay: time.Millisecond})
		h := hedgeCall(t, tr, request(t, "HEAD", nil))
		if h.err != nil || !h.info.HedgeWon || !errors.Is(cause, errOvertaken) || after != slow+time.Millisecond {
			t.Errorf("%v, info %+v; the loser ended with %v after %v", h.err, h.info, cause, after)
		}
	})
}

// TestNotHedged: what is not safe to send twice, has a body, or may be silent.
func TestNotHedged(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"POST":         func(r *http.Request) { r.Method = "POST" },
		"PUT":          func(r *http.Request) { r.Method = "PUT" },
		"OPTIONS":      func(r *http.Request) { r.Method = "OPTIONS" },
		"body":         func(r *http.Request) { r.Body = &tracked{Reader: strings.NewReader("x")} },
		"upgrade":      func(r *http.Request) { r.Header.Set("Upgrade", "websocket") },
		"event stream": func(r *http.Request) { r.Header.Set("Accept", "text/event-stream") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, hedging(), answer{status: 200, delay: time.Second})
				req := request(t, "GET", nil)
				change(req)
				if h := hedgeCall(t, tr, req); h.err != nil || s.count() != 1 || h.info.Hedged {
					t.Errorf("%v, %d sent, info %+v", h.err, s.count(), h.info)
				}
			})
		})
	}
}

// TestHedgeExtraLoad: at most the stated part of the calls, from the first on.
func TestHedgeExtraLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedging()
		p.Hedge.MaxExtraLoad = 0.05
		p.RetryBudget = &policies.RetryBudget{Disabled: true}
		tr, s := through(t, p, answer{status: 200, delay: time.Second})
		for i := range 1000 {
			method := "GET"
			if i%2 == 0 {
				method = "POST" // a call all the same
			}
			if _, err := tr.RoundTrip(request(t, method, nil)); err != nil {
				t.Fatal(err)
			}
			if extra := s.count() - (i + 1); float64(extra) > 0.05*float64(i+1) {
				t.Fatalf("%d hedges in %d calls", extra, i+1)
			}
		}
		if extra := s.count() - 1000; extra < 49 {
			t.Errorf("%d hedges in 1000 slow calls, want nearly 50", extra)
		}
	})
}

// TestHedgeBudget: a hedge that wins has its tokens back, one that does not has
// spent them, and without tokens there is none.
func TestHedgeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedging()
		p.RetryBudget = &policies.RetryBudget{Capacity: 2*retryCost + retryCost - 1}
		good := answer{status: 200, delay: time.Second}
		quick := answer{status: 200, delay: time.Millisecond}
		tr, s := through(t, p, good)
		for range 5 { // each is won, and refunded
			s.answers = append(s.answers[:s.count():s.count()], good, quick)
			if h := hedgeCall(t, tr, request(t, "GET", nil)); !h.info.HedgeWon {
				t.Fatalf("info %+v, %v", h.info, h.err)
			}
		}
		failed := answer{err: errReset, delay: time.Second}
		for i, want := range []bool{true, true, false} { // capacity for two that fail
			s.answers = append(s.answers[:s.count():s.count()], failed)
			if h := hedgeCall(t, tr, request(t, "GET", nil)); h.info.Hedged != want {
				t.Errorf("call %d: info %+v, want hedged %v", i, h.info, want)
			}
		}
	})
}

// TestHedgeTellsTheCircuitTheTruth: an attempt that was overtaken says nothing,
// one that failed counts, and a circuit that is not closed is not hedged.
func TestHedgeTellsTheCircuitTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedging()
		p.CircuitBreaker = &policies.CircuitBreaker{ConsecutiveFailures: 2, OpenFor: time.Second}
		good := answer{status: 200, body: "x", delay: time.Second}
		quick := answer{status: 200, body: "x", delay: time.Millisecond}
		tr, s := through(t, p, good)
		for range 5 {
			s.answers = append(s.answers[:s.count():s.count()], good, quick)
			if h := hedgeCall(t, tr, request(t, "GET", nil)); h.info.Breaker != "closed" || !h.info.HedgeWon {
				t.Fatalf("info %+v, %v", h.info, h.err)
			}
		}
		failed := answer{status: 503, delay: time.Second}
		s.answers = append(s.answers[:s.count():s.count()], failed)
		if h := hedgeCall(t, tr, request(t, "GET", nil)); h.info.Breaker != "open" || h.info.Attempts != 2 {
			t.Errorf("two failures of one call: info %+v", h.info)
		}
		time.Sleep(2 * time.Second) // the next is a probe
		s.answers = append(s.answers[:s.count():s.count()], good)
		if h := hedgeCall(t, tr, request(t, "GET", nil)); h.info.Hedged || h.info.Breaker != "closed" {
			t.Errorf("a probe: info %+v, %v", h.info, h.err)
		}
	})
}

// TestHedgeWithoutPermit: it waits for one as any attempt, and if the first ends
// meanwhile it is not sent and nothing is spent.
func TestHedgeWithoutPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedging()
		p.Bulkhead = &policies.Bulkhead{MaxConcurrent: 1, MaxWait: time.Minute}
		p.RetryBudget = &policies.RetryBudget{Capacity: retryCost}
		tr, s := through(t, p, answer{status: 503, body: "bad", delay: 100 * time.Millisecond}, answer{status: 200, body: "retry"})
		h := hedgeCall(t, tr, request(t, "GET", nil))
		if h.err != nil || h.body != "retry" || h.info.Hedged || s.count() != 2 || h.took != 125*time.Millisecond {
			t.Errorf("%q, %v after %v, %d sent, info %+v", h.body, h.err, h.took, s.count(), h.info)
		}
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || read(t, resp) != "retry" {
			t.Errorf("a permit was left behind: %v", err)
		}
	})
}

// TestHedgeAfterP95: none before it is known, then the slowest of the first
// twenty, then what the upstream does.
func TestHedgeAfterP95(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedging()
		p.Hedge.Delay = policies.P95
		tr, s := through(t, p, answer{status: 200, delay: time.Hour})
		p.Timeout = &policies.Timeout{Attempt: policies.None, Total: policies.None}
		tr.Policies = compile(t, named(p))
		for i := range p95Gather {
			s.answers = append(s.answers[:s.count():s.count()], answer{status: 200, delay: time.Duration(i+1) * time.Millisecond})
			if h := hedgeCall(t, tr, request(t, "GET", nil)); h.info.Hedged {
				t.Fatalf("call %d was hedged", i)
			}
		}
		s.answers = append(s.answers[:s.count():s.count()], answer{status: 200, delay: time.Hour}, answer{status: 200})
		h := hedgeCall(t, tr, request(t, "GET", nil))
		if !h.info.HedgeWon || h.took != p95Gather*time.Millisecond {
			t.Errorf("info %+v after %v, want a hedge after the greatest of %d", h.info, h.took, p95Gather)
		}
		s.answers = append(s.answers[:s.count():s.count()], answer{status: 200, delay: time.Hour}, answer{status: 200})
		if h := hedgeCall(t, tr, request(t, "GET", nil)); h.took <= p95Gather*time.Millisecond || h.took > 2*p95Gather*time.Millisecond {
			t.Errorf("hedged after %v: what was overtaken did not raise the estimate", h.took)
		}
	})
}

// TestHedgePanics: of either attempt, to the caller; of one that nobody waits
// for, to the hook. A base that ends the goroutine has failed.
func TestHedgePanics(t *testing.T) {
	panics := func(d time.Duration, v any) answer {
		return answer{do: func(*http.Request) (*http.Response, error) {
			time.Sleep(d)
			if v == nil {
				runtime.Goexit()
			}
			panic(v)
		}}
	}
	good := func(d time.Duration) answer { return answer{status: 200, body: "good", delay: d} }
	for _, tc := range []struct {
		name    string
		answers []answer
		panic   any
		late    bool
	}{
		{"first", []answer{panics(2*slow, "boom"), good(time.Second)}, "boom", false},
		{"second", []answer{good(time.Second), panics(slow, "boom")}, "boom", false},
		{"second, overtaken", []answer{good(slow + 1), panics(slow, "boom")}, nil, true},
		{"second ends the goroutine", []answer{good(2 * slow), panics(slow/2, nil)}, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := hedging()
				p.Bulkhead = &policies.Bulkhead{MaxConcurrent: 2, MaxWait: policies.None}
				tr, s := through(t, p, tc.answers...)
				var h hedgeCase
				func() {
					defer func() {
						if v := recover(); v != tc.panic {
							t.Errorf("recovered %v, want %v", v, tc.panic)
						}
					}()
					h = hedgeCall(t, tr, request(t, "GET", nil))
					if h.body != "good" || slices.Contains(h.events, "base panicked") != tc.late {
						t.Errorf("got %q, %v, events %v", h.body, h.err, h.events)
					}
				}()
				time.Sleep(time.Minute)
				synctest.Wait()
				tr.Observe = nil
				s.answers = []answer{{status: 200, body: "x"}}
				a, err1 := tr.RoundTrip(request(t, "POST", nil))
				b, err2 := tr.RoundTrip(request(t, "POST", nil))
				if err1 != nil || err2 != nil {
					t.Fatalf("permits were left behind: %v, %v", err1, err2)
				}
				a.Body.Close()
				b.Body.Close()
			})
		})
	}
}

// TestHedgeOfACallerWhoLeft: both attempts end, and the caller has its reason.
func TestHedgeOfACallerWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, hedging(), answer{status: 200, delay: time.Hour})
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(2*slow, func() { cancel(why) })
		h := hedgeCall(t, tr, request(t, "GET", nil).WithContext(ctx))
		if h.err == nil || h.took != 2*slow || s.count() != 2 || h.info.Breaker != "closed" {
			t.Errorf("%v after %v, %d sent, info %+v", h.err, h.took, s.count(), h.info)
		}
	})
}

// TestHedgeOvertakenAsTheCallerLeaves: while a base takes its time to notice that
// its attempt was overtaken the caller's deadline passes. What overtook it is
// given, and not that it was overtaken.
func TestHedgeOvertakenAsTheCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slowly := func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			time.Sleep(2 * slow)
			return nil, context.Cause(r.Context())
		}
		tr, _ := through(t, hedging(), answer{do: slowly}, answer{status: 200, body: "second"})
		ctx, stop := context.WithTimeout(t.Context(), 2*slow)
		defer stop()
		h := hedgeCall(t, tr, request(t, "GET", nil).WithContext(ctx))
		if h.err != nil || h.body != "second" || !h.info.HedgeWon {
			t.Errorf("%q, %v, %+v; want the second attempt's answer", h.body, h.err, h.info)
		}
	})
}

// TestHedgeRacesAStaleAnswer: the hedge's answer comes before the stale one is
// due, is read after the race, and is not cut off by the first attempt's end.
func TestHedgeRacesAStaleAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stale(time.Second)
		p.Hedge = hedging().Hedge
		tr, s := through(t, p)
		fillCache(t, tr, s, answer{err: errReset, delay: 2 * slow}, answer{do: drip(5, slow, nil)})
		h := hedgeCall(t, tr, request(t, "GET", nil))
		if h.err != nil || len(h.body) != 5 || !h.info.HedgeWon || h.info.Served != FromUpstream {
			t.Errorf("%q, %v, info %+v", h.body, h.err, h.info)
		}
	})
}

// TestHedgeLeavesTheRequestAlone: a loser that the base is slow to let go of
// works on a copy, so that the caller may use its request again.
func TestHedgeLeavesTheRequestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		became := make(chan string, 1)
		deaf := func(req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			became <- req.Method + req.URL.Path + req.Header.Get("A")
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}
		tr, _ := through(t, hedging(), answer{status: 200, delay: 2 * slow}, answer{do: deaf})
		req := request(t, "GET", nil)
		req.Header.Set("A", "1")
		tr.warm(req)
		if _, err := tr.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		req.Method, req.URL.Path = "DELETE", "/y"
		req.Header.Set("A", "2")
		if got := <-became; got != "GET/x1" {
			t.Errorf("the hedge's request became %s", got)
		}
	})
}
