//go:build linux

package agent

import (
	"slices"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

// parts is how many parts a circuit's window has.
const parts = 10

// caller is one process's calls to one authority, as its outcome cell says
// them. Nothing in it is believed: counts that go backwards or leap count as
// nothing, and what one process says never opens a circuit that others use.
type caller struct {
	uid  int
	cell *page.Outcome

	seen   page.Tally
	runAt  uint64 // of the run, when the circuit last began anew
	window [parts]counts
	newest int64 // the number of the newest part
}

// counts are those of one part of a window; slow calls are among the others.
type counts struct{ good, bad, slow uint64 }

// mostAtOnce is the largest step of a count between two readings that is
// believed: more than a process can do.
const mostAtOnce = 1 << 24

func step(was, is uint64) uint64 {
	if d := is - was; d <= mostAtOnce {
		return d
	}
	return 0
}

// read takes in what was counted since the last reading. Successes of a time
// when nobody looked have no known date, and are left out.
func (c *caller) read(now, window time.Duration, looked bool) {
	t := c.cell.Read()
	c.forget(now, window)
	p := &c.window[c.newest%parts]
	if looked {
		p.good += step(c.seen.Good, t.Good)
	}
	p.bad += step(c.seen.Bad, t.Bad)
	p.slow += step(c.seen.Slow, t.Slow)
	if t.Run < c.runAt || t.Good != c.seen.Good {
		c.runAt = 0
	}
	c.seen = t
}

// forget empties the parts of the window that are over.
func (c *caller) forget(now, window time.Duration) {
	n := int64(now / max(1, window/parts))
	for i := max(c.newest+1, n-parts+1); i <= n; i++ {
		c.window[i%parts] = counts{}
	}
	c.newest = max(c.newest, n)
}

// anew forgets all that was counted before.
func (c *caller) anew() {
	c.seen = c.cell.Read()
	c.runAt = c.seen.Run
	c.window = [parts]counts{}
}

// evidence is what one caller says about an authority in the window.
type evidence struct {
	uid       int
	good, bad uint64
	slow      uint64 // of those
	run       uint64
}

// says gives the caller's evidence; false: it does not call this authority now.
func (c *caller) says(now, window time.Duration) (evidence, bool) {
	e := evidence{uid: c.uid, run: c.seen.Run - c.runAt}
	for _, p := range c.window {
		e.good += p.good
		e.bad += p.bad
		e.slow += p.slow
	}
	// The successes of a time when nobody looked are left out, not the slow
	// ones: a slow call is a call.
	e.good += max(e.slow, e.good+e.bad) - (e.good + e.bad)
	if now-c.seen.Last > window || c.seen.Last > now+time.Second {
		return e, e.good+e.bad > 0
	}
	return e, true
}

// verdict says whether what the callers say is evidence enough to open the
// circuit for all: not if it may be one process's own trouble. Each caller's
// part counts up to the callers' median, and at least half of the callers, two
// or more, and of two users where more than one calls, must fail by their own
// measure; or there is only one.
func verdict(set *policies.CircuitBreaker, all []evidence) bool {
	return byRun(set, all) || byRate(set, all, set.FailureRate, func(e evidence) uint64 { return e.bad }) ||
		set.SlowCallDuration > 0 && byRate(set, all, set.SlowCallRate, func(e evidence) uint64 { return e.slow })
}

func byRun(set *policies.CircuitBreaker, all []evidence) bool {
	if set.ConsecutiveFailures == 0 {
		return false
	}
	most := median(all, func(e evidence) uint64 { return e.run })
	sum := uint64(0)
	for _, e := range all {
		sum += min(e.run, most)
	}
	return sum >= uint64(set.ConsecutiveFailures) && quorum(all, func(e evidence) bool { return e.run > 0 })
}

// byRate says whether so large a part of the calls were of one kind.
func byRate(set *policies.CircuitBreaker, all []evidence, rate float64, of func(evidence) uint64) bool {
	most := float64(median(all, func(e evidence) uint64 { return e.good + e.bad }))
	var bad, calls float64
	for _, e := range all {
		if n := float64(e.good + e.bad); n > 0 {
			part := min(1, most/n)
			bad += part * float64(of(e))
			calls += part * n
		}
	}
	return calls >= float64(set.MinRequests) && bad >= rate*calls && quorum(all, func(e evidence) bool {
		return of(e) > 0 && float64(of(e)) >= rate*float64(e.good+e.bad)
	})
}

// quorum says whether enough of the callers fail.
func quorum(all []evidence, fails func(evidence) bool) bool {
	failing, users, failingUsers := 0, map[int]bool{}, map[int]bool{}
	for _, e := range all {
		users[e.uid] = true
		if fails(e) {
			failing++
			failingUsers[e.uid] = true
		}
	}
	switch {
	case len(all) == 1:
		return failing == 1
	case len(users) > 1 && len(failingUsers) < 2:
		return false
	}
	return failing >= max(2, (len(all)+1)/2)
}

// median is the lower one: with two callers the smaller value.
func median(all []evidence, of func(evidence) uint64) uint64 {
	if len(all) == 0 {
		return 0
	}
	values := make([]uint64, len(all))
	for i, e := range all {
		values[i] = of(e)
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}
