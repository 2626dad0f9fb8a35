package transport

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/resagent/resagent/policies"
)

// plain are judges that are told every call, which is what newJudges must
// equal.
type plain struct {
	failures, slow *gobreaker.CircuitBreaker[struct{}]
}

func newPlain(set policies.CircuitBreaker) plain {
	judge := func(rate float64) *gobreaker.CircuitBreaker[struct{}] {
		return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Interval: set.Window, BucketPeriod: max(set.Window/10, 1),
			ReadyToTrip: func(n gobreaker.Counts) bool {
				all := n.TotalSuccesses + n.TotalFailures
				return all >= uint32(set.MinRequests) && float64(n.TotalFailures) >= rate*float64(all)
			},
		})
	}
	return plain{judge(set.FailureRate), judge(set.SlowCallRate)}
}

func (p plain) told(o outcome) bool {
	tell := func(gb *gobreaker.CircuitBreaker[struct{}], against bool) bool {
		if !against {
			gb.Execute(func() (struct{}, error) { return struct{}{}, nil })
		} else {
			gb.Execute(fails)
		}
		return gb.State() == gobreaker.StateOpen
	}
	failed := tell(p.failures, o.failed())
	return tell(p.slow, o == slowSuccess || o == slowFailure) || failed
}

// TestJudgesAreExact: they open at the very call at which gobreakers would that
// are told all of them, also at the edges of the window and of its parts.
func TestJudgesAreExact(t *testing.T) {
	seed := rand.Uint64()
	opened, closed := 0, 0
	for run := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, run))
			set := policies.CircuitBreaker{
				Window:           []time.Duration{10 * time.Second, time.Second + 5, 10 * time.Millisecond, time.Minute}[rnd.IntN(4)],
				FailureRate:      0.1 + 0.9*rnd.Float64(),
				SlowCallRate:     0.1 + 0.9*rnd.Float64(),
				SlowCallDuration: time.Second,
				MinRequests:      1 + rnd.IntN(40),
			}
			part := set.Window / 10
			js, ps := newJudges(set), newPlain(set)
			for i := range 600 {
				switch rnd.IntN(12) {
				case 0: // to an edge of a part
					time.Sleep(part - time.Since(js.ended.born)%part)
				case 1: // just before one
					time.Sleep(part - time.Since(js.ended.born)%part - 1)
				case 2:
					time.Sleep(time.Duration(rnd.Int64N(int64(part))))
				case 3:
					if rnd.IntN(20) == 0 {
						time.Sleep(set.Window + time.Duration(rnd.IntN(3)-1))
					}
				}
				o := success
				switch p := rnd.Float64(); {
				case p < set.FailureRate*0.4:
					o = failure
				case p < set.FailureRate*0.8:
					o = slowFailure
				case rnd.Float64() < set.SlowCallRate*0.5:
					o = slowSuccess
				}
				got, want := js.told(o), ps.told(o)
				if got != want {
					t.Fatalf("seed %d, run %d, call %d (%d): opens is %v, want %v", seed, run, i, o, got, want)
				}
				if got {
					opened++
					js, ps = newJudges(set), newPlain(set)
				} else {
					closed++
				}
			}
		})
	}
	if opened < 100 || closed < 1000*opened/100 {
		t.Errorf("seed %d: opened at %d of %d calls; the comparison says nothing", seed, opened, opened+closed)
	}
}

// TestEndedAtOnce: no end is lost that several goroutines count at once.
func TestEndedAtOnce(t *testing.T) {
	var e ended
	e.begin(time.Hour)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 200_000 {
				e.add(time.Duration(i) * e.part / 20_000) // through ten parts
			}
		})
	}
	all.Wait()
	if n := e.sum(9 * e.part); n != 1_600_000 {
		t.Errorf("1,600,000 calls ended, %d are counted", n)
	}
	e.add(10 * e.part) // takes the first part's place
	if n := e.sum(10 * e.part); n != 1_440_001 {
		t.Errorf("a part later %d of 1,440,001 are counted", n)
	}
	e.add(0) // late by the whole window
	if n := e.sum(10 * e.part); n != 1_440_001 {
		t.Errorf("with one that came too late %d of 1,440,001 are counted", n)
	}
	if n := e.sum(19 * e.part); n != 1 {
		t.Errorf("at the window's end %d of 1 are counted", n)
	}
	if n := e.sum(20 * e.part); n != 0 {
		t.Errorf("after the window %d of 0 are counted", n)
	}
}
