package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

// shop is a circuit of the host, without an agent: half-open it gives one probe
// at a time.
type shop struct {
	word                 atomic.Uint64
	mu                   sync.Mutex
	given                bool
	ends                 []client.ProbeOutcome
	told                 atomic.Int64 // outcomes of other calls, of which:
	good, bad, own, slow atomic.Int64
	called               atomic.Int64 // calls that are not counted
	gone                 atomic.Bool  // the agent
	until                atomic.Int64 // of a pause, since boot
	pause                time.Duration
}

func (s *shop) Word() client.Word          { return client.Word(s.word.Load()) }
func (s *shop) Stands(client.Word) bool    { return !s.gone.Load() }
func (s *shop) Good(time.Time)             { s.told.Add(1); s.good.Add(1) }
func (s *shop) Bad(time.Time)              { s.told.Add(1); s.bad.Add(1) }
func (s *shop) Own(time.Time)              { s.told.Add(1); s.own.Add(1) }
func (s *shop) Slow()                      { s.told.Add(1); s.slow.Add(1) }
func (s *shop) Called(time.Time)           { s.called.Add(1) }
func (s *shop) Pause(d time.Duration)      { s.pause = d }
func (s *shop) PausedUntil() time.Duration { return time.Duration(s.until.Load()) }

func (s *shop) Probe(context.Context) hostProbe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given {
		return &shopProbe{s, false}
	}
	s.given = true
	return &shopProbe{s, true}
}

type shopProbe struct {
	of    *shop
	given bool
}

func (p *shopProbe) Given() bool { return p.given }

func (p *shopProbe) End(o client.ProbeOutcome) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.given = false
	p.of.ends = append(p.of.ends, o)
}

// share gives the circuit of tr's upstream to the host.
func (s *shop) share(t *testing.T, tr *Transport, state page.State, forced bool) *breaker {
	t.Helper()
	s.word.Store(uint64(page.NewCircuit(state, forced, 1, client.SinceBoot(time.Now())+time.Hour)))
	_, a := tr.find(tr.session(), tr.tableFor(tr.session()), get(t), time.Now())
	a.breaker.host = s
	return a.breaker
}

// Ways in which a probe's call can end without an answer that anybody reads to
// its end. None wedges the circuit: what each says of the upstream is told once,
// and the next call is a probe again, or passes a closed circuit.
func TestProbesThatEndBadly(t *testing.T) {
	drops := answer{status: 200, body: "dropped"}
	for _, tc := range []struct {
		name   string
		answer answer
		want   client.ProbeOutcome
	}{
		{"dropped body", drops, client.ProbeSuccess},
		{"panic", answer{panics: "boom"}, client.ProbeNothing},
		{"Goexit", answer{do: func(*http.Request) (*http.Response, error) { runtime.Goexit(); return nil, nil }}, client.ProbeNothing},
		{"its own trouble", answer{err: &net.DNSError{Err: "no such host", IsNotFound: true}}, client.ProbeNothing},
		{"a failure", answer{status: 500}, client.ProbeFailure},
		{"its caller leaves", answer{status: 200, delay: time.Minute}, client.ProbeNothing},
	} {
		probe := func(t *testing.T, tr *Transport) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			done := make(chan struct{})
			go func() { // Goexit ends it
				defer close(done)
				defer func() { recover() }()
				resp, err := tr.RoundTrip(get(t).WithContext(ctx))
				if err == nil && tc.answer.body == "" {
					resp.Body.Close()
				} // else nobody closes it
			}()
			<-done
		}
		policy := policies.Policy{Retry: &policies.Retry{Disabled: true},
			CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1, OpenFor: 5 * time.Second, MaxOpenFor: 5 * time.Second}}
		t.Run("host's: "+tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &script{answers: []answer{tc.answer, {status: 200}}}
				tr := &Transport{Base: base, Policies: compile(t, named(policy)), Agent: alone(t)}
				s := new(shop)
				s.share(t, tr, page.CircuitHalfOpen, false)
				probe(t, tr)
				if len(s.ends) != 1 || s.ends[0] != tc.want || s.told.Load() != 0 {
					t.Fatalf("the agent was told %q of the probe and %d other outcomes, want %q once", s.ends, s.told.Load(), tc.want)
				}
				if status, err := sendOne(t, tr, get(t)); status != 200 {
					t.Fatalf("the next probe: %d, %v", status, err)
				}
				if len(s.ends) != 2 || s.ends[1] != client.ProbeSuccess {
					t.Errorf("of two probes the agent was told %q", s.ends)
				}
			})
		})
		t.Run("own: "+tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &script{answers: []answer{{status: 500}, tc.answer, {status: 200}}}
				tr := &Transport{Base: base, Policies: compile(t, named(policy)), Agent: alone(t)}
				sendOne(t, tr, get(t))
				if _, err := sendOne(t, tr, get(t)); err == nil {
					t.Fatal("the circuit is not open after a failure")
				}
				time.Sleep(6 * time.Second)
				probe(t, tr)
				if tc.want == client.ProbeFailure || tc.name == "its own trouble" { // its own circuit is open again
					time.Sleep(6 * time.Second)
				}
				if status, err := sendOne(t, tr, get(t)); status != 200 {
					t.Errorf("the next call: %d, %v", status, err)
				}
				if _, a := tr.find(tr.session(), tr.tableFor(tr.session()), get(t), time.Now()); a.breaker.state() != closed {
					t.Errorf("after a good probe the circuit is %v", a.breaker.state())
				}
			})
		})
	}
}

// A person's order is above the throttle of mode proportional, both ways, and
// leaves it as it was; the host is told nothing of single calls.
func TestProportionalObeysOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &script{answers: []answer{{status: 500}}}
		tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, named(policies.Policy{
			Retry:          &policies.Retry{Disabled: true},
			CircuitBreaker: &policies.CircuitBreaker{Mode: policies.ModeProportional},
		}))}
		refused := func(n int) (refused int) {
			for range n {
				if _, err := sendOne(t, tr, get(t)); err != nil {
					refused++
				}
			}
			return refused
		}
		s := new(shop)
		b := s.share(t, tr, page.CircuitClosed, false)
		if n := refused(200); n < 100 {
			t.Fatalf("%d of 200 calls of a dead upstream were refused, want most", n)
		}
		s.share(t, tr, page.CircuitClosed, true)
		if n := refused(100); n != 0 {
			t.Errorf("ordered to be closed, and %d of 100 calls were refused", n)
		}
		s.share(t, tr, page.CircuitOpen, true)
		before := base.count()
		if n := refused(100); n != 100 || base.count() != before {
			t.Errorf("ordered to be open, and %d of 100 calls were refused, %d sent", n, base.count()-before)
		}
		if b.state() != open || b.left() == 0 {
			t.Errorf("ordered to be open, it is %v for %v", b.state(), b.left())
		}
		s.share(t, tr, page.CircuitClosed, false)
		if n := refused(100); n < 50 {
			t.Errorf("after the order %d of 100 calls of the dead upstream were refused, want most again", n)
		}
		if b.state() != closed || s.told.Load() != 0 {
			t.Errorf("after the order it is %v; the agent was told of %d calls", b.state(), s.told.Load())
		}
	})
}

// Below a retry nothing is hedged: the number in the request's header says what
// it is part of.
func TestNoHedgeBelowARetry(t *testing.T) {
	for number, attempts := range map[string]int{"": 2, "1": 2, "2": 1} {
		synctest.Test(t, func(t *testing.T) {
			p := hedging()
			p.Propagation = &policies.Propagation{AttemptHeader: "X-Attempt"}
			tr, s := through(t, p, answer{status: 200, delay: 4 * slow}, answer{status: 200})
			req := get(t)
			if number != "" {
				req.Header.Set("X-Attempt", number)
			}
			if h := hedgeCall(t, tr, req); h.err != nil || s.count() != attempts {
				t.Errorf("attempt %q: %d sent, %v; want %d", number, s.count(), h.err, attempts)
			}
		})
	}
}

// Bodies that an outage left hanging break long after it: they say nothing of
// the upstream that is well again, neither to the process's circuit nor to the
// host's. One of the time since then does.
func TestBodiesOfBeforeTheOutage(t *testing.T) {
	hangs := answer{do: drip(1, time.Hour, nil)}
	policy := policies.Policy{Retry: &policies.Retry{Disabled: true}, Timeout: &policies.Timeout{Idle: 60 * time.Second},
		CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 3, OpenFor: 5 * time.Second}}
	streams := func(t *testing.T, tr *Transport) (broken func()) {
		var wg sync.WaitGroup
		for range 3 {
			resp, err := tr.RoundTrip(get(t))
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer resp.Body.Close()
				if _, err := io.ReadAll(resp.Body); !errors.Is(err, ErrIdleTimeout) {
					t.Errorf("a body that hangs: %v", err)
				}
			})
		}
		return wg.Wait
	}
	t.Run("own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr, _ := through(t, policy, hangs, hangs, hangs, answer{status: 500}, answer{status: 500}, answer{status: 500}, answer{status: 200}, hangs, hangs, hangs, answer{status: 200})
			broken := streams(t, tr)
			for range 3 {
				sendOne(t, tr, get(t))
			}
			if _, err := sendOne(t, tr, get(t)); !errors.Is(err, ErrCircuitOpen) {
				t.Fatalf("after three failures: %v", err)
			}
			time.Sleep(6 * time.Second)
			if status, err := sendOne(t, tr, get(t)); status != 200 {
				t.Fatalf("the probe: %d, %v", status, err)
			}
			broken()
			_, a := tr.find(tr.session(), tr.tableFor(tr.session()), get(t), time.Now())
			if s := a.breaker.state(); s != closed {
				t.Errorf("after the bodies of before the outage broke the circuit is %v", s)
			}
			streams(t, tr)()
			if s := a.breaker.state(); s != open {
				t.Errorf("after three bodies broke the circuit is %v", s)
			}
		})
	})
	t.Run("host's", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr, _ := through(t, policy, hangs, hangs, hangs, answer{status: 200}, hangs)
			s := new(shop)
			s.share(t, tr, page.CircuitClosed, false)
			broken := streams(t, tr)
			s.word.Store(uint64(page.NewCircuit(page.CircuitClosed, false, 4, 0))) // it was open meanwhile
			sendOne(t, tr, get(t))
			told := s.told.Load()
			broken()
			if n := s.told.Load() - told; n != 0 {
				t.Errorf("the host is told of %d bodies of before the outage", n)
			}
			told = s.told.Load()
			streams(t, tr)()
			if n := s.told.Load() - told; n != 6 {
				t.Errorf("the host is told %d outcomes of three bodies that broke, want 3 successes and 3 failures", n)
			}
		})
	})
}
