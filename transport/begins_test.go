package transport

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// An attempt that waited for nothing begins with its call. What takes time
// before it is none of the upstream's.

// TestLookIsNotTheUpstreams: nor is the time in which the cache is looked into.
func TestLookIsNotTheUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, policies.Policy{
			Retry:          &policies.Retry{Disabled: true},
			CircuitBreaker: &policies.CircuitBreaker{SlowCallDuration: 100 * time.Millisecond, SlowCallRate: 0.5, MinRequests: 3},
			Fallback:       &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour}},
		}, answer{status: 200, delay: 50 * time.Millisecond})
		tr.Cache = &fallbackcache.Cache{Partition: func(*http.Request) string {
			time.Sleep(80 * time.Millisecond)
			return ""
		}}
		for i := range 5 {
			var info Info
			resp, err := tr.RoundTrip(get(t).WithContext(WithInfo(t.Context(), &info)))
			if err != nil || info.Breaker != "closed" {
				t.Fatalf("call %d: %v, circuit %s, though the upstream takes half of what is slow", i, err, info.Breaker)
			}
			resp.Body.Close()
		}
	})
}

// slowWord is a host's circuit whose agent takes its time to give a probe.
type slowWord struct{ shop }

func (s *slowWord) Probe(ctx context.Context) hostProbe {
	time.Sleep(4 * time.Millisecond)
	return s.shop.Probe(ctx)
}

// TestProbesWordIsNotTheUpstreams: nor is the agent's word.
func TestProbesWordIsNotTheUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &Transport{Agent: alone(t), Policies: compile(t, named(policies.Policy{Timeout: &policies.Timeout{Attempt: 10 * time.Millisecond}}))}
		c := &call{t: tr, req: get(t), ctx: t.Context(), start: time.Now()}
		c.policy()
		c.setDeadline()
		s := new(slowWord)
		s.word.Store(uint64(page.NewCircuit(page.CircuitHalfOpen, false, 3, 0)))
		c.breaker().host = s
		a := c.newAttempt()
		if err := a.admit(); err != nil {
			t.Fatal(err)
		}
		a.startClock()
		if a.probe == nil || a.since != 4*time.Millisecond {
			t.Errorf("a probe: %v; its clock runs since %v, want 4ms", a.probe != nil, a.since)
		}
		a.finish(ignored)
	})
}

// TestProportionalIsNoted: its calls are not counted, but orders about it are
// the host's, and go to those who call.
func TestProportionalIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, policies.Policy{CircuitBreaker: &policies.CircuitBreaker{Mode: policies.ModeProportional}}, answer{status: 200})
		c := &call{t: tr, req: get(t), ctx: t.Context(), start: time.Now()}
		c.policy()
		s := new(shop)
		c.breaker().host = s
		resp, err := tr.RoundTrip(get(t))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if s.called.Load() != 1 || s.told.Load() != 0 {
			t.Errorf("noted %d times, told %d times; want once and never", s.called.Load(), s.told.Load())
		}
	})
}

// TestClosedWhileItsCellWasGone: a process that was open because the host was
// does not stay shut.
func TestClosedWhileItsCellWasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(shop)
		b := newBreaker(settings(), time.Now())
		b.host = s
		for _, word := range []client.Word{
			page.NewCircuit(page.CircuitOpen, false, 3, client.SinceBoot(time.Now())+time.Hour), 0,
			page.NewCircuit(page.CircuitClosed, false, 5, 0),
		} {
			s.word.Store(uint64(word))
			b.follow()
		}
		if b.state() != closed {
			t.Errorf("%v, for %v, though the host's has closed", b.state(), b.left())
		}
	})
}
