package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, bulkhead(1, 10, time.Hour)))
		holder := acquire(t, l)
		holder.has(t, "the first caller")
		var waiters []*caller
		for range 5 {
			waiters = append(waiters, acquire(t, l))
		}
		for i, w := range waiters {
			w.waits(t, "before its turn")
			holder.permit.Release()
			w.has(t, "in its turn")
			for _, later := range waiters[i+1:] {
				later.waits(t, "before its turn")
			}
			holder = w
		}
		holder.permit.Release()
	})
}

func TestNewcomerDoesNotOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, bulkhead(2, 10, time.Hour)))
		a, b := acquire(t, l), acquire(t, l)
		first := acquire(t, l)
		a.permit.Release()
		first.has(t, "the waiter")
		second := acquire(t, l)
		second.waits(t, "the newcomer")
		b.permit.Release()
		second.has(t, "the newcomer")
	})
}

func TestMaxWaitIsExact(t *testing.T) {
	for _, wait := range []time.Duration{policies.None, time.Millisecond, 100 * time.Millisecond, 90 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			l := Local(resolved(t, bulkhead(1, 10, wait)))
			acquire(t, l).has(t, "the first caller")
			second := acquire(t, l)
			time.Sleep(max(wait, 0)) // the bubble's clock
			second.refused(t, "the second caller", WaitOver, max(wait, 0))
		})
	}
}

func TestMaxWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, bulkhead(1, 3, time.Minute)))
		holder := acquire(t, l)
		queue := []*caller{acquire(t, l), acquire(t, l), acquire(t, l)}
		acquire(t, l).refused(t, "the fourth waiter", QueueFull, 0)
		holder.permit.Release()
		queue[0].has(t, "the first waiter")
		last := acquire(t, l)
		last.waits(t, "in the place that came free")
		acquire(t, l).refused(t, "one more", QueueFull, 0)
	})
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, bulkhead(1, policies.None, time.Minute)))
		acquire(t, l).has(t, "the first caller")
		acquire(t, l).refused(t, "without a queue", QueueFull, 0)
	})
}

func TestCancellingGivesThePlaceBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, bulkhead(1, 1, time.Minute)))
		holder := acquire(t, l)
		waiter := acquire(t, l)
		acquire(t, l).refused(t, "the second waiter", QueueFull, 0)
		why := errors.New("changed its mind")
		waiter.cancel(why)
		if !waiter.over() || waiter.err != why {
			t.Fatal("the cancelled waiter: want the cause of its context, at once")
		}
		next := acquire(t, l)
		next.waits(t, "in the cancelled one's place")
		holder.permit.Release()
		next.has(t, "in the cancelled one's place")
	})
}

func TestCancelledCallerTakesNothing(t *testing.T) {
	l := Local(resolved(t, bulkhead(1, 1, time.Minute)))
	first, err := l.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("over before it began")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := l.Acquire(ctx); err != why {
		t.Errorf("with an ended context: %v, want its cause", err)
	}
	first.Release()
	if p, err := l.Acquire(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	} else {
		p.Release()
	}
}

func TestLimitRaisedWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, bulkhead(1, 10, time.Minute)))
		acquire(t, l).has(t, "the first caller")
		a, b, c := acquire(t, l), acquire(t, l), acquire(t, l)
		l.configure(resolved(t, bulkhead(3, 10, time.Minute)))
		a.has(t, "the first waiter, with two more permits")
		b.has(t, "the second waiter")
		c.waits(t, "the third waiter")
		a.permit.Release()
		c.has(t, "the third waiter")
	})
}

func TestLimitLoweredWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Local(resolved(t, bulkhead(3, 10, time.Minute)))
		held := []*caller{acquire(t, l), acquire(t, l), acquire(t, l)}
		w := acquire(t, l)
		l.configure(resolved(t, bulkhead(1, 10, time.Minute)))
		held[0].permit.Release()
		w.waits(t, "with two in use of one")
		held[1].permit.Release()
		w.waits(t, "with one in use of one")
		held[2].permit.Release()
		w.has(t, "with none in use")
		acquire(t, l).waits(t, "the next")
		l.configure(resolved(t, bulkhead(3, 10, time.Minute)))
		synctest.Wait()
		acquire(t, l).has(t, "with the limit raised again")
		acquire(t, l).waits(t, "the fourth")
	})
}

// The section goes away while callers wait: they go through, at once. What
// they give back later is nobody's permit.
func TestSectionRemovedWhileCallersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with, without := resolved(t, bulkhead(1, 10, time.Minute)), resolved(t, policies.Policy{})
		l := Local(with)
		holder := acquire(t, l)
		a, b := acquire(t, l), acquire(t, l)
		l.configure(without)
		a.has(t, "a waiter of a limit that is gone")
		b.has(t, "a waiter of a limit that is gone")
		free := acquire(t, l)
		free.has(t, "without a limit")
		l.configure(with)
		synctest.Wait()
		one := acquire(t, l)
		one.waits(t, "the permit is still held")
		for _, c := range []*caller{a, b, free} {
			c.permit.Release()
			one.waits(t, "what was not counted is not given back")
		}
		holder.permit.Release()
		one.has(t, "the permit was given back")
	})
}

// Random callers of a limit that changes all the time: never more in flight
// than the largest limit of late, and everything comes back.
func TestRandomCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		const most = 5
		policy := make([]*policies.Policy, most+1)
		for n := 1; n <= most; n++ {
			policy[n] = resolved(t, bulkhead(n, 20, 50*time.Millisecond))
		}
		l := Local(policy[most])
		var mu sync.Mutex
		inside := 0
		var wg sync.WaitGroup
		for range 400 {
			think, hold, patience := time.Duration(r.IntN(2000))*time.Millisecond, time.Duration(r.IntN(30))*time.Millisecond, time.Duration(1+r.IntN(80))*time.Millisecond
			wg.Go(func() {
				time.Sleep(think)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				p, err := l.Acquire(ctx)
				if err != nil {
					return
				}
				mu.Lock()
				if inside++; inside > most {
					t.Errorf("seed %d: %d in flight, the limit was never above %d", seed, inside, most)
				}
				mu.Unlock()
				time.Sleep(hold)
				mu.Lock()
				inside--
				mu.Unlock()
				p.Release()
			})
		}
		for range 40 {
			time.Sleep(50 * time.Millisecond)
			l.configure(policy[1+r.IntN(most)])
		}
		wg.Wait()
		l.configure(policy[3])
		for i := range 3 {
			acquire(t, l).has(t, "one of three when all is given back")
			if i == 2 {
				acquire(t, l).waits(t, "the fourth of three")
			}
		}
	})
}
