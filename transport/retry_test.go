package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/policies"
)

// TestRetryTiming: with a random of one half the waits are half their range.
func TestRetryTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{},
			answer{err: errReset}, answer{status: 503, body: "no"}, answer{status: 200, body: "yes"})
		var info Info
		req := request(t, "GET", nil)
		req = req.WithContext(WithInfo(req.Context(), &info))
		began := time.Now()
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "yes" {
			t.Errorf("body %q", got)
		}
		for i, want := range []time.Duration{0, 25 * time.Millisecond, 75 * time.Millisecond} {
			if at := s.calls[i].at.Sub(began); at != want {
				t.Errorf("attempt %d after %v, want %v", i+1, at, want)
			}
		}
		want := Info{Upstream: "upstream", Attempts: 3, Waited: 75 * time.Millisecond, Served: FromUpstream, Breaker: "closed"}
		if info != want {
			t.Errorf("info %+v, want %+v", info, want)
		}
		if resp.Request != req {
			t.Error("resp.Request is not the caller's")
		}
	})
}

func TestRetryAfterIsExact(t *testing.T) {
	for name, value := range map[string]func(time.Time) string{
		"seconds": func(time.Time) string { return "3" },
		"RFC1123": func(now time.Time) string { return now.Add(3 * time.Second).UTC().Format(http.TimeFormat) },
		"RFC850": func(now time.Time) string {
			return now.Add(3 * time.Second).UTC().Format("Monday, 02-Jan-06 15:04:05 GMT")
		},
		"asctime": func(now time.Time) string { return now.Add(3 * time.Second).UTC().Format(time.ANSIC) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := http.Header{"Retry-After": {value(time.Now())}}
				tr, s := through(t, policies.Policy{}, answer{status: 503, header: h}, answer{status: 200})
				resp, err := tr.RoundTrip(request(t, "GET", nil))
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("got %v, %v", resp, err)
				}
				if d := s.calls[1].at.Sub(s.calls[0].at); d != 3*time.Second {
					t.Errorf("retried after %v, want 3s", d)
				}
			})
		})
	}
}

// TestNotRetried: the first answer is the caller's, whole, and at once.
func TestNotRetried(t *testing.T) {
	long := http.Header{"Retry-After": {"100"}}
	for _, tc := range []struct {
		name    string
		method  string
		first   answer
		p       policies.Policy
		timeout time.Duration
		stopped string
	}{
		{name: "404", first: answer{status: 404, body: "none"}},
		{name: "500", first: answer{status: 500, body: "oh"}},
		{name: "POST", method: "POST", first: answer{status: 503, body: "no"}, stopped: "method POST without idempotency key"},
		{name: "long Retry-After", first: answer{status: 429, header: long, body: "wait"}, stopped: "Retry-After is longer than max_retry_after"},
		{name: "deadline", first: answer{status: 503, header: http.Header{"Retry-After": {"2"}}, body: "no"},
			timeout: time.Second, stopped: "the deadline comes first"},
		{name: "total", first: answer{status: 503, header: http.Header{"Retry-After": {"2"}}, body: "no"},
			p: policies.Policy{Timeout: &policies.Timeout{Total: time.Second}}, stopped: "the deadline comes first"},
		{name: "replayed", first: answer{status: 503, header: http.Header{idempotency.ReplayedHeader: {"true"}}, body: "stored"}},
		{name: "disabled", first: answer{status: 503, body: "no"}, p: policies.Policy{Retry: &policies.Retry{Disabled: true}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, tc.p, tc.first, answer{status: 200})
				if tc.method == "" {
					tc.method = "GET"
				}
				var info Info
				ctx := WithInfo(context.Background(), &info)
				if tc.timeout > 0 {
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, tc.timeout)
					defer cancel()
				}
				began := time.Now()
				resp, err := tr.RoundTrip(request(t, tc.method, nil).WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, resp); resp.StatusCode != tc.first.status || got != tc.first.body {
					t.Errorf("got %d %q, want %d %q", resp.StatusCode, got, tc.first.status, tc.first.body)
				}
				if n := s.count(); n != 1 {
					t.Errorf("%d attempts, want 1", n)
				}
				if d := time.Since(began); d != 0 {
					t.Errorf("it took %v", d)
				}
				if info.Stopped != tc.stopped {
					t.Errorf("stopped because %q, want %q", info.Stopped, tc.stopped)
				}
			})
		})
	}
}

// TestLastAnswerIsGiven: if all attempts got 503, so does the caller, readable.
func TestLastAnswerIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{}, answer{status: 503, body: "one"}, answer{status: 502, body: "two"}, answer{status: 503, body: "three"})
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); resp.StatusCode != 503 || got != "three" || s.count() != 3 {
			t.Errorf("got %d %q after %d attempts", resp.StatusCode, got, s.count())
		}
	})
}

func TestLaterErrorWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, policies.Policy{}, answer{status: 503, body: "one"}, answer{err: errReset})
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if resp != nil || !errors.Is(err, errReset) {
			t.Errorf("got %v, %v", resp, err)
		}
	})
}

// TestCircuitStopsRetries: the failure that opens the circuit, or meets an open
// one, is given at once and whole; its retry would only wait to be refused.
func TestCircuitStopsRetries(t *testing.T) {
	for _, tc := range []struct {
		name    string
		first   answer
		openFor time.Duration
		sent    int
	}{
		{name: "small", first: answer{status: 503, body: "sorry"}, sent: 1},
		{name: "large", first: answer{status: 503, body: strings.Repeat("x", 2*drainMost)}, sent: 1},
		{name: "error", first: answer{err: errReset}, sent: 1},
		{name: "Retry-After beyond the opening", sent: 2, openFor: time.Second,
			first: answer{status: 503, header: http.Header{"Retry-After": {"5"}}, body: "sorry"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				breaker := &policies.CircuitBreaker{ConsecutiveFailures: 1, OpenFor: tc.openFor}
				tr, s := through(t, policies.Policy{CircuitBreaker: breaker}, tc.first, answer{status: 200})
				var info Info
				req := request(t, "GET", nil)
				began := time.Now()
				resp, err := tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info)))
				if s.count() != tc.sent {
					t.Fatalf("%d attempts, want %d", s.count(), tc.sent)
				}
				if tc.sent > 1 {
					if err != nil || resp.StatusCode != 200 {
						t.Errorf("got %v, %v; want the probe's answer", resp, err)
					}
					return
				}
				if d := time.Since(began); d != 0 {
					t.Errorf("it took %v", d)
				}
				if !errors.Is(err, tc.first.err) || err == nil && read(t, resp) != tc.first.body {
					t.Errorf("got %v, %v", resp, err)
				}
				if info.Stopped != "the circuit is open" || info.Breaker != "open" {
					t.Errorf("info %+v", info)
				}
			})
		})
	}
}

// TestKeptAnswer: when another call opens the circuit during the wait for the
// next attempt, the wait ends then, and the caller gets the response of the
// attempt before if it was small, else the refusal with its status.
func TestKeptAnswer(t *testing.T) {
	refused := func(t *testing.T, first answer) (*http.Response, error) {
		p := policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 2}}
		tr, s := through(t, p, first, answer{err: errOther})
		time.AfterFunc(10*time.Millisecond, func() { tr.RoundTrip(request(t, "POST", nil)) })
		var info Info
		req := request(t, "GET", nil)
		began := time.Now()
		resp, err := tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info)))
		if d := time.Since(began); d != 10*time.Millisecond || info.Waited != d {
			t.Errorf("it took %v and says that it waited %v, want the 10ms until the circuit opened", d, info.Waited)
		}
		if info.Stopped != ErrCircuitOpen.Error() || info.Attempts != 1 {
			t.Errorf("info %+v", info)
		}
		if s.count() != 2 {
			t.Fatalf("%d attempts, want this call's first and the other's", s.count())
		}
		return resp, err
	}
	t.Run("small", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			resp, err := refused(t, answer{status: 503, body: "sorry"})
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); resp.StatusCode != 503 || got != "sorry" {
				t.Errorf("got %d %q", resp.StatusCode, got)
			}
		})
	})
	t.Run("large", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			resp, err := refused(t, answer{status: 503, body: strings.Repeat("x", giveMost+1)})
			var no *RejectedError
			if resp != nil || !errors.As(err, &no) || !errors.Is(err, ErrCircuitOpen) {
				t.Fatalf("got %v, %v", resp, err)
			}
			if no.LastStatus != 503 || no.Upstream != "upstream" || no.RetryAfter <= 0 {
				t.Errorf("refusal %+v", no)
			}
		})
	})
	t.Run("error before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, err := refused(t, answer{err: errReset})
			if !errors.Is(err, ErrCircuitOpen) || !errors.Is(err, errReset) {
				t.Errorf("got %v, want both the refusal and what came before", err)
			}
		})
	})
}

func TestCancelDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{}, answer{status: 503, header: http.Header{"Retry-After": {"5"}}, body: "no"})
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(why) })
		began := time.Now()
		resp, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx))
		if resp != nil || !errors.Is(err, why) {
			t.Errorf("got %v, %v; want the caller's reason", resp, err)
		}
		if d := time.Since(began); d != time.Second || s.count() != 1 {
			t.Errorf("%d attempts in %v", s.count(), d)
		}
	})
}

func TestMintedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{Idempotency: &policies.Idempotency{}}, answer{err: errReset}, answer{status: 409}, answer{status: 201})
		req := request(t, "POST", strings.NewReader("body"))
		resp, err := tr.RoundTrip(req)
		if err != nil || resp.StatusCode != 201 {
			t.Fatalf("got %v, %v", resp, err)
		}
		if s.count() != 3 {
			t.Fatalf("%d attempts, want 3", s.count())
		}
		key := s.calls[0].header.Get(idempotency.Header)
		for i, c := range s.calls {
			if got := c.header.Get(idempotency.Header); got == "" || got != key || c.body != "body" {
				t.Errorf("attempt %d had key %q and body %q", i+1, got, c.body)
			}
		}
		if len(req.Header) != 0 {
			t.Errorf("the caller's header was changed: %v", req.Header)
		}
	})
}

func TestCallersKeyStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{Idempotency: &policies.Idempotency{}}, answer{status: 503}, answer{status: 200})
		req := request(t, "POST", strings.NewReader("body"))
		req.Header.Set(idempotency.Header, "mine")
		if _, err := tr.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		for i, c := range s.calls {
			if got := c.header.Get(idempotency.Header); got != "mine" {
				t.Errorf("attempt %d had key %q", i+1, got)
			}
		}
		if s.count() != 2 {
			t.Errorf("%d attempts, want 2", s.count())
		}
	})
}

func TestNeverSentIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := &net.OpError{Op: "dial", Err: errors.New("refused")}
		// The base fails before it touches the body.
		unsent := func(req *http.Request) (*http.Response, error) { req.Body.Close(); return nil, dial }
		tr, s := through(t, policies.Policy{}, answer{do: unsent}, answer{status: 200})
		src := &tracked{Reader: strings.NewReader("body")}
		resp, err := tr.RoundTrip(request(t, "POST", src))
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		if s.calls[1].body != "body" || src.times.Load() != 1 {
			t.Errorf("second attempt had body %q; the caller's was closed %d times", s.calls[1].body, src.times.Load())
		}
	})
}

// TestBudget: 500 tokens are 35 retries at 14 each; a success at the first try
// earns one.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{
			Retry:          &policies.Retry{MaxAttempts: 2},
			CircuitBreaker: &policies.CircuitBreaker{Disabled: true},
		}, answer{err: errReset})
		var last error
		for range 100 {
			_, last = tr.RoundTrip(request(t, "GET", nil))
		}
		if n := s.count() - 100; n != 500/retryCost {
			t.Errorf("%d retries from a budget of 500, want %d", n, 500/retryCost)
		}
		if !errors.Is(last, ErrRetryBudget) || !errors.Is(last, errReset) {
			t.Errorf("got %v, want the error and ErrRetryBudget", last)
		}
		s.answers = []answer{{status: 200}}
		for range 20 {
			tr.RoundTrip(request(t, "GET", nil))
		}
		before := s.count()
		s.answers = []answer{{err: errReset}}
		for range 10 {
			tr.RoundTrip(request(t, "GET", nil))
		}
		if n := s.count() - before - 10; n != 2 {
			t.Errorf("%d retries after 20 successes, want 2 from 10 tokens left over and 20 earned", n)
		}
	})
}

// TestBudgetIsRefunded: retries that succeed cost nothing.
func TestBudgetIsRefunded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		for range 200 {
			s.answers = append(s.answers, answer{status: 503}, answer{status: 200})
		}
		tr := &Transport{Base: s, Agent: alone(t), Policies: compile(t, named(policies.Policy{
			CircuitBreaker: &policies.CircuitBreaker{Disabled: true}}))}
		for i := range 200 {
			resp, err := tr.RoundTrip(request(t, "GET", nil))
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("call %d: %v, %v", i, resp, err)
			}
		}
	})
}

// TestDrainIsBounded: a failed answer that never ends does not hold the retry
// up for longer than drainTime.
func TestDrainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		defer pw.Close()
		stalled := func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 503, Header: http.Header{}, Body: pr, ContentLength: -1, Request: req}, nil
		}
		tr, s := through(t, policies.Policy{}, answer{do: stalled}, answer{status: 200})
		began := time.Now()
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		if at := s.calls[1].at.Sub(began); at != drainTime+25*time.Millisecond {
			t.Errorf("second attempt after %v, want %v", at, drainTime+25*time.Millisecond)
		}
		synctest.Wait()
		if _, err := pw.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the stalled body was not closed: %v", err)
		}
	})
}

// A base that fails without closing the request body, as many stubs do, must
// not hold up the next attempt.
func TestBaseThatLeavesTheBodyOpenIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		base := stub(func(req *http.Request) (*http.Response, error) {
			b := make([]byte, 3)
			io.ReadFull(req.Body, b)
			if sent = append(sent, string(b)); len(sent) == 1 {
				return nil, errors.New("connection lost")
			}
			req.Body.Close()
			return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
		})
		req, err := http.NewRequest("PUT", "http://shop.test/", struct{ io.Reader }{strings.NewReader("abcdef")})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&Transport{Base: base}).RoundTrip(req)
		if err != nil || resp.StatusCode != 200 || len(sent) != 2 || sent[1] != "abc" {
			t.Fatalf("got %v, %v after sending %q, want 200 after abc twice", resp, err, sent)
		}
	})
}

type stub func(*http.Request) (*http.Response, error)

func (s stub) RoundTrip(req *http.Request) (*http.Response, error) { return s(req) }
