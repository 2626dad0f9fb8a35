//go:build linux

package agent

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// In no window, of whatever length, are more than burst + rate x window tokens
// spent: late looks, late processes, hints, deaths and restarts of the agent
// make fewer of them, never one more. It is exact: two tokens of a burst of one
// are the whole time of a token apart, to the nanosecond, also where the first
// was late; so what is late is lost. A schedule that made up for it, as one
// process's own limiter has, would not hold.
func TestRateBoundIsExact(t *testing.T) {
	const seeds = 300
	spent := 0
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 0))
		rate, burst := policies.Rate(10+random.IntN(1000)), 1+random.IntN(4)
		w := newWorld(policy(0, rate, burst, 0))
		for range 2 + random.IntN(2) {
			joined(w, 0, 1)
		}
		var said []string
		for range 150 {
			said = append(said, w.stepRate(random, rate.Every()))
			if err := w.exactRate(rate.Every(), burst); err != nil {
				t.Fatalf("seed %d: %v; the last steps: %v", seed, err, said[max(0, len(said)-8):])
			}
		}
		spent += len(w.spent)
	}
	if spent < seeds*10 {
		t.Errorf("%d tokens were spent in %d runs: too few to say anything", spent, seeds)
	}
}

// stepRate does one thing that can happen to a rate.
func (w *world) stepRate(random *rand.Rand, every time.Duration) string {
	i := random.IntN(len(w.actors))
	a := w.actors[i]
	switch what := random.IntN(20); {
	case what < 5:
		d := time.Duration(random.Int64N(int64(every + every/2)))
		w.pass(d)
		return fmt.Sprint(d, " pass")
	case what < 7: // for a schedule that makes up for what was late
		d := every - time.Duration(random.Int64N(int64(every/8)))
		w.pass(d)
		return fmt.Sprint(d, " pass")
	case what < 10:
		w.want(a, 1, 1+random.IntN(2))
		return fmt.Sprint(i, " wants")
	case what < 14:
		return fmt.Sprint(i, " takes: ", w.take(a, 1, 1))
	case what < 16:
		w.want(a, 1, 1)
		return fmt.Sprint(i, " wants and takes ", w.takeAll(a, 1))
	case what == 16:
		w.hint(a, 1)
		return fmt.Sprint(i, " hints")
	case what == 17:
		w.giveUp(a, 1)
		return fmt.Sprint(i, " gives up")
	case what == 18:
		w.disconnect(a)
		w.connect(a)
		w.open(a, 1)
		return fmt.Sprint(i, " connects again")
	case random.IntN(2) == 0:
		w.die(a)
		joined(w, 0, 1)
		return fmt.Sprint(i, " dies, and another comes")
	}
	w.kill()
	w.now += time.Duration(random.Int64N(int64(every)))
	w.boot()
	for _, a := range w.actors {
		w.connect(a)
	}
	return "the agent is killed, and comes back"
}

// exactRate looks at each window that ends with the newest token.
func (w *world) exactRate(every time.Duration, burst int) error {
	sum := 0
	for i := len(w.spent) - 1; i >= 0; i-- {
		sum += w.spent[i].n
		if window := w.spent[len(w.spent)-1].at - w.spent[i].at; sum > burst+int(window/every) {
			return fmt.Errorf("%d tokens spent in %v, with a burst of %d and one every %v", sum, window, burst, every)
		}
	}
	return nil
}

// A token that is spent while the agent is about to look was spent when it
// looked, not when it began to: it may have been held up in between.
func TestSpentWhileTheAgentIsHeldUp(t *testing.T) {
	const late = time.Millisecond
	for name, look := range map[string]func(w *world, a *actor){
		"look":   func(w *world, a *actor) { w.hint(a, 1) },
		"takeIn": func(w *world, a *actor) { w.connect(a) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(policy(0, 200, 1, 0)) // one in 5 ms
			a := joined(w, 1, 1)
			w.want(a, 1, 1)
			w.alloc.clock = func() time.Duration { return w.now + late }
			if !w.take(a, 1, 1) { // at now + late
				t.Fatal("no first token")
			}
			look(w, a)
			w.alloc.clock = nil
			w.want(a, 1, 1)
			w.pass(5 * time.Millisecond)
			if w.take(a, 1, 1) {
				t.Errorf("the next token %v after the first, want 5 ms", 5*time.Millisecond-late)
			}
			w.pass(late)
			if !w.take(a, 1, 1) {
				t.Error("no next token 5 ms after the first")
			}
		})
	}
}

// Who waits for a token of a burst of one is looked at when that is due. Where
// more fit into the bucket, none is lost if several come at once, and the agent
// looks less often.
func TestTokensAreGathered(t *testing.T) {
	for _, one := range []struct {
		rate  policies.Rate
		burst int
		next  time.Duration
	}{
		{20_000, 1, 50 * time.Microsecond},
		{20_000, 21, 500 * time.Microsecond},
		{20_000, 20_000, time.Millisecond},
		{800, 20_000, 1250 * time.Microsecond},
		{100, 2, lookAgain},
	} {
		w := newWorld(policy(0, one.rate, one.burst, 0))
		a := joined(w, 1, 1)
		w.want(a, 1, one.burst)
		if !w.take(a, 1, one.burst) {
			t.Fatalf("%v, burst %d: not all of the burst", one.rate, one.burst)
		}
		w.want(a, 1, 1)
		for _, at := range w.alloc.hot {
			if at-w.now != one.next {
				t.Errorf("%v, burst %d: looked at again after %v, want %v", one.rate, one.burst, at-w.now, one.next)
			}
		}
	}
}
