package transport

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/resagent/resagent/policies"
)

// The counts and the decision are those of the formula over a plain list of
// what happened.
func TestThrottleModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		th := &throttle{multiplier: rapid.Float64Range(1, 3).Draw(t, "multiplier"), part: time.Second}
		type happened struct {
			part     int64
			accepted bool
		}
		var all []happened
		var now time.Duration
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += time.Duration(rapid.SampledFrom([]int{0, 0, 0, 300, 1000, 4000, 30000}).Draw(t, "pass")) * time.Millisecond
			part := int64(now / time.Second)
			if rapid.Bool().Draw(t, "ends") {
				accepted := rapid.Bool().Draw(t, "accepted")
				th.ended(now, accepted)
				all = append(all, happened{part, accepted})
				continue
			}
			var requests, accepts float64
			for _, h := range all {
				if h.part > part-10 {
					requests++
					if h.accepted {
						accepts++
					}
				}
			}
			random := rapid.Float64Range(0, 0.999).Draw(t, "random")
			want := random < math.Max(0, (requests-th.multiplier*accepts)/(requests+1))
			if got := th.refuses(now, random); got != want {
				t.Fatalf("with %v requests and %v accepts at %v: refused %v, want %v", requests, accepts, random, got, want)
			}
			if want {
				all = append(all, happened{part, false})
			}
		}
	})
}

// An upstream that fails for one call in ten is not throttled at all; one that
// fails always gets a few calls, and is back within a window of its recovery.
func TestThrottleOverTime(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	th := &throttle{multiplier: 2, part: time.Second}
	var now time.Duration
	sent := func(seconds int, fails float64) (part float64) {
		n, let := 0, 0
		for range seconds * 100 {
			now += 10 * time.Millisecond
			if n++; !th.refuses(now, random.Float64()) {
				let++
				th.ended(now, random.Float64() >= fails)
			}
		}
		return float64(let) / float64(n)
	}
	if p := sent(20, 0.1); p != 1 {
		t.Errorf("with 10 %% failures %.3f of the calls were sent, want all", p)
	}
	sent(10, 1)
	if p := sent(20, 1); p > 0.01 {
		t.Errorf("with 100 %% failures %.3f of the calls were sent, want next to none", p)
	}
	sent(40, 0)
	if p := sent(10, 0); p < 0.99 {
		t.Errorf("40 s after recovery %.3f of the calls are sent, want all", p)
	}
}

func TestModeProportional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &script{answers: []answer{{status: 500}}}
		tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, named(policies.Policy{
			CircuitBreaker: &policies.CircuitBreaker{Mode: policies.ModeProportional},
		}))}
		refused := 0
		for range 1000 {
			if _, err := sendOne(t, tr, get(t)); errors.Is(err, ErrCircuitOpen) {
				refused++
			}
		}
		if got := len(base.calls); got+refused != 1000 || got > 50 {
			t.Errorf("of 1000 calls that fail %d were sent and %d refused: want at most 50 sent", got, refused)
		}
		for range 11 {
			time.Sleep(time.Second)
		}
		if status, err := sendOne(t, tr, get(t)); status != 500 {
			t.Errorf("a window later: %d, %v; want a call", status, err)
		}
	})
}
