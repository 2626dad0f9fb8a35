package page

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// Whatever process and agent do at once, nothing appears and nothing is lost:
// what the agent granted is in the cell, in the hands of callers, spent, or
// seized back.
func TestNothingIsLostUnderConcurrency(t *testing.T) {
	const callers, rounds = 4, 3000
	var c Cell
	c.Open(1)
	c.SetTarget(1, 100)
	var granted, seized, spent, most, now atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range rounds {
				switch n := 1 + rand.N(3); rand.N(5) {
				case 0:
					if c.Take(1, n) {
						spent.Add(int64(n))
					}
				case 1:
					if c.Acquire(1, n) {
						if !c.Consume(1, n) {
							t.Error("Consume of what was acquired failed")
						}
						spent.Add(int64(n))
					}
				default:
					if c.Acquire(1, n) {
						most.Store(max(most.Load(), now.Add(int64(n))))
						now.Add(int64(-n))
						if !c.Release(1, n) {
							t.Error("Release of what was acquired failed")
						}
					}
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range rounds {
				n := 1 + rand.N(8)
				if rand.N(2) == 0 {
					seized.Add(int64(c.Seize(1, n)))
				} else if c.Grant(1, n) {
					granted.Add(int64(n))
				}
				c.SetTarget(1, 50+rand.N(50))
			}
		})
	}
	wg.Wait()
	w := c.Read()
	if w.InUse != 0 {
		t.Errorf("%d in use after everything was released", w.InUse)
	}
	if got := int64(w.Available) + seized.Load() + spent.Load(); got != granted.Load() {
		t.Errorf("available %d + seized %d + spent %d = %d, but %d were granted", w.Available, seized.Load(), spent.Load(), got, granted.Load())
	}
	if most.Load() > 100 {
		t.Errorf("%d in use at a time, above every target", most.Load())
	}
}

// Of many callers at one permit one has it at a time.
func TestOnePermitOneHolder(t *testing.T) {
	var c Cell
	c.Open(1)
	c.SetTarget(1, 9)
	c.Grant(1, 1)
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				if c.Acquire(1, 1) {
					if inside.Add(1) != 1 {
						t.Error("two callers hold the one permit")
					}
					inside.Add(-1)
					c.Release(1, 1)
				}
			}
		})
	}
	wg.Wait()
	if w := c.Read(); w.Available != 1 || w.InUse != 0 {
		t.Errorf("%+v at the end, want the permit available", w)
	}
}

// Closing while callers hold: each of them is either in what Close returned,
// or had released before; none both, none neither.
func TestCloseCountsEachHolderOnce(t *testing.T) {
	for range 300 {
		var c Cell
		c.Open(1)
		c.SetTarget(1, 8)
		c.Grant(1, 8)
		for range 8 {
			c.Acquire(1, 1)
		}
		var released atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if c.Release(1, 1) {
					released.Add(1)
				}
			})
		}
		left := c.Close(1)
		wg.Wait()
		if int64(left)+released.Load() != 8 {
			t.Fatalf("Close returned %d and %d released before it, want 8 together", left, released.Load())
		}
	}
}
