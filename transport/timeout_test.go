package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

func once(p policies.Policy) policies.Policy {
	p.Retry = &policies.Retry{Disabled: true}
	return p
}

// want checks a timeout: which one, when, and how net.Error sees it.
func wantTimeout(t *testing.T, err, kind error, took, want time.Duration) {
	t.Helper()
	var ne net.Error
	if !errors.Is(err, kind) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("got %v, want %v as a timeout", err, kind)
	}
	if !(&url.Error{Op: "Get", URL: host, Err: err}).Timeout() {
		t.Errorf("%v is no timeout for *url.Error", err)
	}
	if took != want {
		t.Errorf("it struck after %v, want %v", took, want)
	}
}

func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, once(policies.Policy{Timeout: &policies.Timeout{Attempt: 2 * time.Second}}), answer{status: 200, delay: time.Hour})
		began := time.Now()
		_, err := tr.RoundTrip(request(t, "GET", nil))
		wantTimeout(t, err, ErrAttemptTimeout, time.Since(began), 2*time.Second)
	})
}

// TestAttemptTimeoutOpensCircuit: an upstream that hangs is a failing one.
func TestAttemptTimeoutOpensCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, once(policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 3}}),
			answer{status: 200, delay: time.Hour})
		var err error
		for range 5 {
			_, err = tr.RoundTrip(request(t, "GET", nil))
		}
		if !errors.Is(err, ErrCircuitOpen) || s.count() != 3 {
			t.Errorf("got %v after %d attempts", err, s.count())
		}
	})
}

func TestTotalTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, policies.Policy{Timeout: &policies.Timeout{Attempt: 3 * time.Second, Total: 7 * time.Second}},
			answer{status: 200, delay: time.Hour})
		began := time.Now()
		_, err := tr.RoundTrip(request(t, "GET", nil))
		wantTimeout(t, err, ErrTotalTimeout, time.Since(began), 7*time.Second)
		if s.count() != 3 {
			t.Errorf("%d attempts", s.count())
		}
	})
}

// TestTotalDoesNotCutBodies: once the headers are there, total is over.
func TestTotalDoesNotCutBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := drip(10, time.Second, nil)
		tr, _ := through(t, once(policies.Policy{Timeout: &policies.Timeout{Total: 3 * time.Second}}), answer{do: slow})
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); len(got) != 10 {
			t.Errorf("%d bytes, want 10", len(got))
		}
	})
}

// drip answers with a body of n bytes, one every so often, which ends with err
// (nil: EOF). It obeys the request's context.
func drip(n int, every time.Duration, err error) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		pr, pw := io.Pipe()
		go func() {
			for range n {
				timer := time.NewTimer(every)
				select {
				case <-timer.C:
				case <-req.Context().Done():
					timer.Stop()
					pw.CloseWithError(context.Cause(req.Context()))
					return
				}
				if _, werr := pw.Write([]byte("x")); werr != nil {
					return
				}
			}
			pw.CloseWithError(err)
		}()
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: pr, ContentLength: -1, Request: req}, nil
	}
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := once(policies.Policy{Timeout: &policies.Timeout{Idle: 5 * time.Second}, CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1}})
		tr, s := through(t, p, answer{do: drip(2, 7*time.Second, nil)})
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = io.ReadAll(resp.Body)
		wantTimeout(t, err, ErrIdleTimeout, time.Since(began), 5*time.Second)
		resp.Body.Close()
		if _, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, ErrCircuitOpen) {
			t.Errorf("the broken body was not counted as a failure: %v", err)
		}
		_ = s
	})
}

// TestIdleRunsOnlyInRead: a caller may think for as long as it likes.
func TestIdleRunsOnlyInRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, once(policies.Policy{Timeout: &policies.Timeout{Idle: 5 * time.Second}}), answer{do: drip(20, 4*time.Second, nil)})
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		var one [1]byte
		for i := range 20 {
			if i%5 == 0 {
				time.Sleep(time.Minute) // the caller thinks
			}
			if _, err := io.ReadFull(resp.Body, one[:]); err != nil {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
		resp.Body.Close()
	})
}

// TestNoIdleTimeoutForStreams: where both sides may be silent.
func TestNoIdleTimeoutForStreams(t *testing.T) {
	for _, kind := range []string{"text/event-stream; charset=utf-8", "application/grpc+proto"} {
		synctest.Test(t, func(t *testing.T) {
			do := drip(1, time.Hour, nil)
			tr, _ := through(t, once(policies.Policy{}), answer{do: func(req *http.Request) (*http.Response, error) {
				resp, err := do(req)
				resp.Header.Set("Content-Type", kind)
				return resp, err
			}})
			resp, err := tr.RoundTrip(request(t, "GET", nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != "x" {
				t.Errorf("%s: %q", kind, got)
			}
		})
	}
}

// TestUploadThatMoves: neither timeout cuts a body that moves; then the
// attempt timeout runs from its last byte.
func TestUploadThatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		go func() {
			for range 20 {
				time.Sleep(3 * time.Second)
				pw.Write([]byte("x"))
			}
			pw.Close()
		}()
		tr, s := through(t, policies.Policy{Timeout: &policies.Timeout{Attempt: 5 * time.Second, Total: 10 * time.Second}},
			answer{status: 200, delay: 4 * time.Second}, answer{status: 200, delay: time.Hour})
		resp, err := tr.RoundTrip(request(t, "POST", pr))
		if err != nil || resp.StatusCode != 200 || len(s.calls[0].body) != 20 {
			t.Fatalf("a minute's upload: %v, %v", resp, err)
		}
		began := time.Now()
		_, err = tr.RoundTrip(request(t, "POST", strings.NewReader("short")))
		wantTimeout(t, err, ErrAttemptTimeout, time.Since(began), 5*time.Second)
	})
}

// TestSlowBodiesAreTheCallers: an attempt that was cut off while it waited for
// the caller's own body says nothing of the upstream: a gateway's circuit would
// open because of a few clients that upload slowly. An upstream that has the
// whole body and hangs has failed.
func TestSlowBodiesAreTheCallers(t *testing.T) {
	leaves := func(r *http.Request) (*http.Response, error) { // as over HTTP/2
		go io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	for name, tc := range map[string]struct {
		timeout policies.Timeout
		pause   time.Duration
		base    answer
		opens   bool
	}{
		"attempt":        {policies.Timeout{Attempt: 2 * time.Second}, 5 * time.Second, answer{status: 200}, false},
		"over HTTP/2":    {policies.Timeout{Attempt: 2 * time.Second}, 5 * time.Second, answer{do: leaves}, false},
		"total":          {policies.Timeout{Attempt: policies.None, Total: 2 * time.Second}, 5 * time.Second, answer{status: 200}, false},
		"upstream hangs": {policies.Timeout{Attempt: 2 * time.Second}, time.Second, answer{delay: time.Hour}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, _ := through(t, once(policies.Policy{Timeout: &tc.timeout, CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 2}}), tc.base)
				var err error
				for range 4 {
					_, err = tr.RoundTrip(request(t, "POST", &chunks{n: 2, size: 5, pause: tc.pause}))
				}
				var late net.Error
				if opened := errors.Is(err, ErrCircuitOpen); opened != tc.opens || !opened && (!errors.As(err, &late) || !late.Timeout()) {
					t.Errorf("the fourth call: %v; want that the circuit is open: %v", err, tc.opens)
				}
				time.Sleep(time.Minute) // for the Reads
			})
		})
	}
}

// TestZeroConfiguration: what must not be disturbed.
func TestZeroConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{status: 200, delay: 40 * time.Second, body: "poll"}, {do: drip(3, 10*time.Minute, nil)}}}
		tr := &Transport{Base: s, Agent: alone(t)}
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil || read(t, resp) != "poll" {
			t.Fatalf("a long poll: %v, %v", resp, err)
		}
		resp, err = tr.RoundTrip(request(t, "GET", nil))
		if err != nil || read(t, resp) != "xxx" {
			t.Fatalf("a slow stream: %v, %v", resp, err)
		}
	})
}

// TestCallersDeadlineWins: and stays the caller's.
func TestCallersDeadlineWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, policies.Policy{}, answer{status: 200, delay: time.Hour})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx))
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTotalTimeout) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

// TestAttachingCountsForTheTotal: an agent that accepts and says nothing keeps
// the first calls waiting, on the account of their total time.
func TestAttachingCountsForTheTotal(t *testing.T) {
	socket := t.TempDir() + "/agent.sock"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &script{answers: []answer{{status: 200}}}
	session := &client.Session{Socket: socket}
	defer session.Close()
	tr := &Transport{Base: s, Agent: session, Policies: compile(t, named(policies.Policy{
		Timeout: &policies.Timeout{Attempt: policies.None, Total: time.Microsecond}}))}
	if _, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, ErrTotalTimeout) || s.count() != 0 {
		t.Errorf("got %v after %d attempts, want no attempt after the total time", err, s.count())
	}
}

// TestQueueIsNotTheUpstreams: waiting for a permit uses up total, not attempt.
func TestQueueIsNotTheUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, once(policies.Policy{
			Timeout:  &policies.Timeout{Attempt: 2 * time.Second, Total: 10 * time.Second},
			Bulkhead: &policies.Bulkhead{MaxConcurrent: 1, MaxWait: time.Minute},
		}), answer{do: drip(9, time.Second, nil)}, answer{status: 200, delay: 1500 * time.Millisecond})
		first, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		go func() { // holds the permit for 9 s
			io.Copy(io.Discard, first.Body)
			first.Body.Close()
		}()
		synctest.Wait()
		began := time.Now()
		var info Info
		req := request(t, "GET", nil)
		_, err = tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info)))
		wantTimeout(t, err, ErrTotalTimeout, time.Since(began), 10*time.Second)
		if s.count() != 2 || info.Waited != 9*time.Second {
			t.Errorf("%d attempts, waited %v", s.count(), info.Waited)
		}
	})
}
