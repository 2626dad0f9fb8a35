package transport

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// latency draws from a log-normal distribution with a median of 10 ms, whose
// 95th percentile is 10 ms x e^(1.645 x sigma).
func latency(r *rand.Rand, scale, sigma float64) time.Duration {
	return time.Duration(scale * math.Exp(sigma*r.NormFloat64()) * float64(10*time.Millisecond))
}

func TestP95(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		r := rand.New(rand.NewPCG(seed, 0))
		var p p95
		for i := range p95Gather {
			if _, ok := p.value(); ok {
				t.Fatalf("seed %d: known after %d values", seed, i)
			}
			p.add(latency(r, 1, 0.5), true)
		}
		// The mean over a while, so that its unrest does not count.
		settle := func(what string, scale float64, censored bool) {
			t.Helper()
			var sum float64
			const skip, count = 2000, 8000
			for i := range skip + count {
				d, _ := p.value()
				took := latency(r, scale, 0.5)
				if censored && took > d { // a hedge won
					p.add(d+1, false)
				} else {
					p.add(took, true)
				}
				if i >= skip {
					sum += math.Log(float64(d))
				}
			}
			got := math.Exp(sum / count)
			want := scale * 10e6 * math.Exp(1.645*0.5)
			if math.Abs(math.Log(got/want)) > 0.1 {
				t.Errorf("seed %d, %s: %v, want %v within a tenth", seed, what, time.Duration(got), time.Duration(want))
			}
		}
		settle("steady", 1, false)
		settle("ten times slower", 10, false)
		settle("fast again", 1, false)
		settle("hedged", 1, true)
		settle("hedged and slower", 10, true)
	}
}

// TestP95Bounds: an attempt that was given up early says nothing, and no value
// leads out of range.
func TestP95Bounds(t *testing.T) {
	var p p95
	p.add(time.Hour, false)
	for range p95Gather {
		p.add(time.Second, true)
	}
	if d, ok := p.value(); d != time.Second || !ok {
		t.Fatalf("%v, %v", d, ok)
	}
	p.add(time.Millisecond, false)
	if d, _ := p.value(); d != time.Second {
		t.Errorf("an attempt given up before the estimate moved it to %v", d)
	}
	for range 10000 {
		p.add(0, true)
	}
	if d, _ := p.value(); d != time.Microsecond {
		t.Errorf("%v after endless zeros", d)
	}
	for range 10000 {
		p.add(math.MaxInt64, true)
	}
	if d, _ := p.value(); d < 12*time.Hour || d > 24*time.Hour {
		t.Errorf("%v after endless ages", d)
	}
}

// TestAllowance: never more hedges than the calls have earned, by many callers.
func TestAllowance(t *testing.T) {
	var a allowance
	if a.take() {
		t.Error("a hedge before any call")
	}
	var wg sync.WaitGroup
	taken := make([]int, 4)
	for i := range taken {
		wg.Go(func() {
			for range 10000 {
				a.earn(0.05)
				if a.take() {
					taken[i]++
				}
			}
		})
	}
	wg.Wait()
	all := taken[0] + taken[1] + taken[2] + taken[3]
	if all > 2000 || all < 1990 {
		t.Errorf("%d hedges for 40000 calls at 5 %%, want 2000", all)
	}
	for range 1000 {
		a.earn(0.05)
	}
	burst := 0
	for a.take() {
		burst++
	}
	if burst != hedgesSaved {
		t.Errorf("%d hedges were saved, want %d", burst, hedgesSaved)
	}
}
