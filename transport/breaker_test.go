package transport

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

func settings() policies.CircuitBreaker {
	return policies.CircuitBreaker{
		FailureRate: 0.5, MinRequests: 20, ConsecutiveFailures: 20, Window: 10 * time.Second,
		OpenFor: 5 * time.Second, MaxOpenFor: time.Minute, HalfOpenRequests: 1,
	}
}

// one sends a call through the breaker; false: it was refused.
func one(b *breaker, o outcome) bool {
	t, ok, _ := b.admit()
	if ok {
		b.record(t, o)
	}
	return ok
}

func TestBreakerOpensOnRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings()
		set.ConsecutiveFailures = 0
		b := newBreaker(set, time.Now())
		for i := range 9 {
			one(b, success)
			one(b, failure)
			if b.state() != closed {
				t.Fatalf("open after %d calls, fewer than min_requests", 2*i+2)
			}
		}
		one(b, success)
		if one(b, failure); b.state() != open {
			t.Fatalf("10 of 20 calls failed and the circuit is %v", b.state())
		}
		if one(b, success) {
			t.Error("an open circuit let a call through")
		}
	})
}

func TestBreakerOpensOnRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(settings(), time.Now())
		for range 1000 {
			one(b, success) // a good past that would outweigh for long
		}
		for range 19 {
			one(b, failure)
		}
		if b.state() != closed {
			t.Fatal("open before the 20th failure in a row")
		}
		if one(b, failure); b.state() != open {
			t.Fatal("closed after 20 failures in a row")
		}
	})
}

func TestBreakerForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings()
		set.ConsecutiveFailures = 0
		b := newBreaker(set, time.Now())
		for range 15 {
			one(b, failure)
		}
		time.Sleep(11 * time.Second)
		for range 10 {
			one(b, success)
		}
		if one(b, failure); b.state() != closed {
			t.Error("failures older than the window opened the circuit")
		}
	})
}

// TestBreakerSlowFailures: calls that take longer than the window count when
// they end. gobreaker by itself forgets them.
func TestBreakerSlowFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings()
		set.ConsecutiveFailures = 0
		b := newBreaker(set, time.Now())
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				tk, _, _ := b.admit()
				time.Sleep(15 * time.Second)
				b.record(tk, failure)
			})
		}
		wg.Wait()
		if b.state() != open {
			t.Error("20 calls failed after 15 s in a 10 s window, and the circuit is closed")
		}
	})
}

func trip(b *breaker) {
	for range 20 {
		one(b, failure)
	}
}

// opening measures how long the circuit stays open.
func opening(t *testing.T, b *breaker) time.Duration {
	t.Helper()
	began := time.Now()
	_, ok, wait := b.admit()
	if ok {
		t.Fatal("not open")
	}
	time.Sleep(wait - time.Microsecond)
	if _, ok, _ := b.admit(); ok {
		t.Errorf("a probe was let through before the time it was told")
	}
	time.Sleep(time.Microsecond)
	return time.Since(began)
}

func TestBreakerDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(settings(), time.Now())
		trip(b)
		for _, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
			want *= time.Second
			if d := opening(t, b); d < want || d > want+want/10+time.Microsecond {
				t.Errorf("open for %v, want %v and at most a tenth more", d, want)
			}
			if !one(b, failure) {
				t.Fatal("no probe was let through")
			}
		}
		opening(t, b)
		if one(b, success); b.state() != closed {
			t.Fatal("a probe succeeded and the circuit is not closed")
		}
		trip(b)
		if d := opening(t, b); d > 5500*time.Millisecond {
			t.Errorf("open for %v after it had been closed, want 5 s again", d)
		}
	})
}

func TestBreakerProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings()
		set.HalfOpenRequests = 2
		b := newBreaker(set, time.Now())
		trip(b)
		opening(t, b)
		first, ok1, _ := b.admit()
		second, ok2, _ := b.admit()
		_, ok3, wait := b.admit()
		if !ok1 || !ok2 || ok3 {
			t.Fatalf("three probes at once: %v %v %v, want two", ok1, ok2, ok3)
		}
		if wait <= 0 {
			t.Error("the refused one was not told when to come back")
		}
		b.record(first, ignored)
		if _, ok, _ := b.admit(); !ok {
			t.Error("an ignored probe did not give its place back")
		}
		b.record(second, success)
		if b.state() != halfOpen {
			t.Error("closed after one of two successes")
		}
	})
}

func TestBreakerHungProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(settings(), time.Now())
		trip(b)
		opening(t, b)
		hung, _, _ := b.admit()
		time.Sleep(5 * time.Second)
		next, ok, _ := b.admit()
		if !ok {
			t.Fatal("a probe that hangs wedges the circuit")
		}
		if b.record(hung, success); b.state() != closed {
			t.Error("the slow probe succeeded after all, and the circuit is not closed")
		}
		if b.record(next, failure); b.state() != closed {
			t.Error("a probe of the epoch before opened the circuit")
		}
	})
}

// TestBreakerStragglers: calls of the time before the outage that end after it
// do not open the circuit again.
func TestBreakerStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(settings(), time.Now())
		var old []ticket
		for range 40 {
			tk, _, _ := b.admit()
			old = append(old, tk)
		}
		trip(b)
		opening(t, b)
		one(b, success)
		for _, tk := range old {
			b.record(tk, failure)
		}
		if b.state() != closed {
			t.Error("stragglers opened the circuit")
		}
	})
}

func TestBreakerWord(t *testing.T) {
	for _, s := range []state{closed, open, halfOpen} {
		for _, epoch := range []uint64{0, 1, epochMask} {
			for _, until := range []time.Duration{0, time.Microsecond, 5 * time.Second, 24 * 365 * time.Hour} {
				w := pack(s, epoch, until)
				if stateOf(w) != s || epochOf(w) != epoch || untilOf(w) != until || ticket(w) == spent {
					t.Errorf("pack(%v, %d, %v) reads as %v, %d, %v", s, epoch, until, stateOf(w), epochOf(w), untilOf(w))
				}
			}
		}
	}
	if got := pack(open, epochMask+1, 0); epochOf(got) != 0 || stateOf(got) != open {
		t.Error("the epoch spills over")
	}
}
