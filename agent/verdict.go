//go:build linux

package agent

import (
	"cmp"
	"fmt"
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
	uid   int
	cell  *page.Outcome
	index int           // of the cell
	got   time.Duration // when the process got it

	seen   page.Tally
	at     time.Duration // of the newest reading
	probed bool          // had a probe, of which no success came
	runAt  uint64        // of the run, when the circuit last began anew
	ownAt  uint64        // of its own troubles, when it got the cell
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

// read takes in what was counted since the last reading.
func (c *caller) read(now, window time.Duration, looked bool) {
	t := c.cell.Read()
	c.forget(now, window)
	p := &c.window[c.newest%parts]
	if good := step(c.seen.Good, t.Good); looked {
		p.good += good
	} else {
		p.good += c.date(good, t, now, window)
	}
	p.bad += step(c.seen.Bad, t.Bad)
	p.slow += step(c.seen.Slow, t.Slow)
	if t.Run < c.runAt || t.Good != c.seen.Good {
		c.runAt = 0
	}
	c.seen, c.at = t, now
}

// date takes in successes of a time when nobody looked. Left out, they would
// make a few failures among many calls look like an upstream that only fails.
// Those since the process's mark, which are given back, are as recent as what
// failed; those before it are spread evenly over the time since the last
// reading.
func (c *caller) date(good uint64, t page.Tally, now, window time.Duration) (recent uint64) {
	mark, since := t.Marked, t.Since
	switch {
	case mark == 0 || mark > now || since > good && mark > c.at:
		mark, since = now, 0 // no mark, or no true one
	case mark <= c.at:
		since = good
	}
	if t.Last > now-window {
		recent = since
	}
	left := good - since
	part := max(1, window/parts)
	for n := c.number(mark, window); n > c.newest-parts && left > 0 && mark > c.at; n-- {
		from := max(c.at, time.Duration(n)*part)
		some := uint64(float64(left) * float64(mark-from) / float64(mark-c.at)) // all that is left, where from is c.at
		c.window[n%parts].good += some
		left, mark = left-some, from
	}
	return recent
}

// number is that of the part of a window that a time is in.
func (c *caller) number(t, window time.Duration) int64 { return int64(t / max(1, window/parts)) }

// forget empties the parts of the window that are over.
func (c *caller) forget(now, window time.Duration) {
	n := c.number(now, window)
	for i := max(c.newest+1, n-parts+1); i <= n; i++ {
		c.window[i%parts] = counts{}
	}
	c.newest = max(c.newest, n)
}

// anew forgets all that was counted before.
func (c *caller) anew(now time.Duration) {
	c.seen, c.at = c.cell.Read(), now
	c.probed = false
	c.runAt = c.seen.Run
	c.window = [parts]counts{}
}

// ownTroubles is how often the process's own trouble failed a call.
func (c *caller) ownTroubles() uint64 {
	own := c.cell.Read().Own
	return own - min(own, c.ownAt)
}

// evidence is what one caller says about an authority in the window.
type evidence struct {
	uid       int
	good, bad uint64
	slow      uint64 // of those
	run       uint64
	rests     time.Duration // how long it has not called; 0: it calls now
}

// says gives the caller's evidence.
func (c *caller) says(now, window time.Duration) evidence {
	e := evidence{uid: c.uid, run: c.seen.Run - c.runAt}
	for _, p := range c.window {
		e.good += p.good
		e.bad += p.bad
		e.slow += p.slow
	}
	// Not all successes of a time when nobody looked are known, the slow ones
	// are: a slow call is a call.
	e.good += max(e.slow, e.good+e.bad) - (e.good + e.bad)
	if quiet := now - c.seen.Last; e.good+e.bad == 0 && (quiet > window || quiet < -time.Second) {
		e.rests = max(quiet, 1)
	}
	return e
}

// remembered is how long a user that does not call is still asked for: failures
// of one user alone then open nothing.
const remembered = 10 * time.Minute

// verdict says whether what the callers say is evidence enough to open the
// circuit for all: not if it may be one process's own trouble. Each caller's
// part counts up to the callers' median, and at least half of the callers, two
// or more, and of two users where more than one calls or did lately, must fail
// by their own measure; or there is only one, and nobody rests whom it would
// speak for. Each process's own circuit spares it meanwhile. The evidence is
// said in words; none: it is not enough.
func verdict(set *policies.CircuitBreaker, all []evidence) (why string) {
	calling, resting := make([]evidence, 0, len(all)), 0
	users := map[int]bool{}
	for _, e := range all {
		if e.rests < remembered {
			users[e.uid] = true
		}
		if e.rests > 0 {
			resting++
		} else {
			calling = append(calling, e)
		}
	}
	q := quorum{calling, users, resting}
	why = cmp.Or(q.byRun(set), q.byRate(set, set.FailureRate, "failed", func(e evidence) uint64 { return e.bad }))
	if why == "" && set.SlowCallDuration > 0 {
		why = q.byRate(set, set.SlowCallRate, fmt.Sprintf("took longer than %v", set.SlowCallDuration), func(e evidence) uint64 { return e.slow })
	}
	return why
}

// quorum is those whose evidence is asked for.
type quorum struct {
	all     []evidence   // of those that call
	users   map[int]bool // that call, or did lately
	resting int          // how many do not call
}

func (q quorum) byRun(set *policies.CircuitBreaker) (why string) {
	if set.ConsecutiveFailures == 0 {
		return ""
	}
	most := median(q.all, func(e evidence) uint64 { return e.run })
	sum := uint64(0)
	for _, e := range q.all {
		sum += min(e.run, most)
	}
	n, enough := q.fails(func(e evidence) bool { return e.run > 0 })
	if sum < uint64(set.ConsecutiveFailures) || !enough {
		return ""
	}
	return fmt.Sprintf("%d failures in a row, in %s", sum, q.part(n))
}

// byRate says whether so large a part of the calls were of one kind.
func (q quorum) byRate(set *policies.CircuitBreaker, rate float64, kind string, of func(evidence) uint64) (why string) {
	most := float64(median(q.all, func(e evidence) uint64 { return e.good + e.bad }))
	var bad, calls float64
	for _, e := range q.all {
		if n := float64(e.good + e.bad); n > 0 {
			part := min(1, most/n)
			bad += part * float64(of(e))
			calls += part * n
		}
	}
	n, enough := q.fails(func(e evidence) bool {
		return of(e) > 0 && float64(of(e)) >= rate*float64(e.good+e.bad)
	})
	if calls < float64(set.MinRequests) || bad < rate*calls || !enough {
		return ""
	}
	return fmt.Sprintf("%.0f %% of %.0f calls in %v %s, in %s", 100*bad/calls, calls, set.Window, kind, q.part(n))
}

// part says which part of those that call n of them are.
func (q quorum) part(n int) string {
	if len(q.all) == 1 {
		return "the one process that calls"
	}
	return fmt.Sprintf("%d of the %d processes that call", n, len(q.all))
}

// fails says how many of the callers do, and whether that is enough of them.
func (q quorum) fails(fails func(evidence) bool) (failing int, enough bool) {
	failingUsers := map[int]bool{}
	for _, e := range q.all {
		if fails(e) {
			failing++
			failingUsers[e.uid] = true
		}
	}
	switch {
	case len(q.all) == 1 && q.resting == 0:
		return failing, failing == 1
	case len(q.users) > 1 && len(failingUsers) < 2:
		return failing, false
	}
	return failing, failing >= max(2, (len(q.all)+1)/2)
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
