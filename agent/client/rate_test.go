package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

func rateLimit(rate policies.Rate, burst int, wait time.Duration) policies.Policy {
	return policies.Policy{RateLimit: &policies.RateLimit{Rate: rate, Burst: burst, MaxWait: wait}}
}

func TestTokensComeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, rateLimit(10, 2, time.Hour)))
		began := time.Now()
		for i, want := range []time.Duration{0, 0, 100, 200, 300} {
			if err := l.Take(t.Context()); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			if got := time.Since(began); got != want*time.Millisecond {
				t.Errorf("call %d after %v, want %v", i, got, want*time.Millisecond)
			}
		}
	})
}

func TestRateRefusesWhatCannotComeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, rateLimit(10, 1, 150*time.Millisecond)))
		l.Take(t.Context())
		go l.Take(t.Context()) // the token that comes after 100 ms
		synctest.Wait()
		began := time.Now()
		r := wantRefused(t, "the third call", l.Take(t.Context()), RateOver)
		if took := time.Since(began); took != 0 || r.RetryAfter != 200*time.Millisecond {
			t.Errorf("refused after %v with RetryAfter %v, want at once, and the 200 ms until there is a token", took, r.RetryAfter)
		}
		time.Sleep(r.RetryAfter) // the bubble's clock
		if err := l.Take(t.Context()); err != nil {
			t.Errorf("after RetryAfter: %v", err)
		}
	})
}

func TestRateWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, rateLimit(4, 1, policies.None)))
		if err := l.Take(t.Context()); err != nil {
			t.Fatalf("the first call: %v", err)
		}
		if r := wantRefused(t, "the second call", l.Take(t.Context()), RateOver); r.RetryAfter != 250*time.Millisecond {
			t.Errorf("RetryAfter %v, want 250 ms", r.RetryAfter)
		}
	})
}

func TestCancelledWaitForATokenSpendsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, rateLimit(1, 1, time.Hour)))
		l.Take(t.Context())
		began := time.Now()
		why := errors.New("no longer wanted")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, why)
		defer cancel()
		if err := l.Take(ctx); err != why || time.Since(began) != 300*time.Millisecond {
			t.Errorf("%v after %v, want the context's cause after 300 ms", err, time.Since(began))
		}
		if err := l.Take(t.Context()); err != nil || time.Since(began) != time.Second {
			t.Errorf("the next call: %v after %v, want the token that the cancelled one left, after 1 s", err, time.Since(began))
		}
	})
}

// A changed rate holds for the next call; tokens do not appear.
func TestRateChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, rateLimit(1, 5, time.Hour)))
		for range 5 {
			l.Take(t.Context())
		}
		l.configure(resolved(t, rateLimit(100, 5, time.Hour)))
		began := time.Now()
		l.Take(t.Context())
		if took := time.Since(began); took != 10*time.Millisecond {
			t.Errorf("the next token after %v, want 10 ms", took)
		}
		l.configure(resolved(t, policies.Policy{}))
		began = time.Now()
		for range 100 {
			if err := l.Take(t.Context()); err != nil || time.Since(began) != 0 {
				t.Fatalf("without a limit: %v after %v", err, time.Since(began))
			}
		}
	})
}

func budget(capacity int) policies.Policy {
	return policies.Policy{RetryBudget: &policies.RetryBudget{Capacity: capacity}}
}

// left is what a private budget has that is not reserved.
func left(l *Limits) int {
	b := l.budget.bound.Load()
	return b.cell.Read().Available
}

func TestBudget(t *testing.T) {
	l := Local(resolved(t, budget(30)))
	a, ok := l.Reserve(t.Context(), 14)
	b, ok2 := l.Reserve(t.Context(), 14)
	if !ok || !ok2 {
		t.Fatal("a full budget of 30 refuses two retries of 14")
	}
	if _, ok := l.Reserve(t.Context(), 14); ok {
		t.Fatal("28 of 30 are reserved, and 14 more were given")
	}
	a.Refund()
	if got := left(l); got != 16 {
		t.Errorf("%d left after a refund, want 16", got)
	}
	b.Consume()
	if got := left(l); got != 16 {
		t.Errorf("%d left after the other was spent, want 16", got)
	}
	for range 100 {
		l.Deposit()
	}
	if got := left(l); got != 30 {
		t.Errorf("%d left after many deposits, want the capacity of 30", got)
	}
	if _, ok := l.Reserve(t.Context(), 31); ok {
		t.Error("31 of 30 were reserved")
	}
	if _, ok := l.Reserve(t.Context(), -1); ok {
		t.Error("a negative reservation was given")
	}
}

func TestDepositsCountWhatIsReserved(t *testing.T) {
	l := Local(resolved(t, budget(20)))
	r, _ := l.Reserve(t.Context(), 14)
	for range 50 {
		l.Deposit()
	}
	r.Refund()
	if got := left(l); got != 20 {
		t.Errorf("%d in a budget of 20 after deposits beside a reservation", got)
	}
}

// Off and on again, larger and smaller, while a retry is under way: never
// above the capacity.
func TestBudgetNeverAboveCapacity(t *testing.T) {
	for _, changes := range [][]int{{0, 30}, {10, 30}, {0, 20}, {5, 40, 0, 30}, {30, 30, 0, 0, 14}} {
		l := Local(resolved(t, budget(30)))
		r, _ := l.Reserve(t.Context(), 14)
		for _, capacity := range changes {
			p := policies.Policy{RetryBudget: &policies.RetryBudget{Disabled: true}}
			if capacity > 0 {
				p = budget(capacity)
			}
			l.configure(resolved(t, p))
		}
		r.Refund()
		if got, most := left(l), changes[len(changes)-1]; got > most {
			t.Errorf("after %v: %d in a budget of %d", changes, got, most)
		}
	}
}

func TestNoBudgetIsNoLimit(t *testing.T) {
	l := Local(nil)
	r, ok := l.Reserve(t.Context(), 1<<20)
	if !ok {
		t.Error("refused without a budget")
	}
	r.Refund()
	r.Consume()
	l.Deposit()
	if err := l.Take(t.Context()); err != nil {
		t.Errorf("Take without a rate limit: %v", err)
	}
	if p, err := l.Acquire(t.Context()); err != nil || p != (Permit{}) {
		t.Errorf("Acquire without a bulkhead: %v, %v", p, err)
	}
}

// A call that comes while the limit is taken away, or given back, is let
// through.
func TestTakeWhileTheLimitIsTakenAway(t *testing.T) {
	limited := &policies.Policy{RateLimit: &policies.RateLimit{Rate: policies.MaxLimit, Burst: policies.MaxLimit}}
	l := Local(limited)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20_000 {
				if err := l.Take(t.Context()); err != nil {
					t.Errorf("refused: %v", err)
					return
				}
			}
		})
	}
	for range 2000 {
		l.configure(&policies.Policy{})
		l.configure(limited)
	}
	all.Wait()
}
