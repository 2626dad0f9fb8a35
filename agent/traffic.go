//go:build linux

package agent

import (
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

const (
	// fastest is how many calls to one upstream one process is believed to end
	// in a second: more than a process can do.
	fastest = 1_000_000
	// readTraffic is how often the counts are read where nobody asks: they must
	// not wrap in between, at the fastest.
	readTraffic = time.Hour
	// atOnce bounds the callers of a process that were between the two steps of
	// one count when the agent began to count.
	atOnce = 1 << 10
)

// Calls are counts of calls that have ended. As counters they only grow as long
// as the agent runs, also when processes end.
type Calls struct {
	Sent     uint64 `json:"sent"`     // of which at least one attempt was sent
	Unsent   uint64 `json:"unsent"`   // answered or refused without one
	Attempts uint64 `json:"attempts"` // sent, hedges and retries included
	Fallback uint64 `json:"fallback"` // answered from the stale cache or with the fixed answer
}

// Total is all calls.
func (c Calls) Total() uint64 { return c.Sent + c.Unsent }

// Amplification is how many attempts a call that was sent took; false: there
// was none.
func (c Calls) Amplification() (float64, bool) {
	return float64(c.Attempts) / float64(max(1, c.Sent)), c.Sent > 0
}

// FallbackShare is the part of the calls that the fallback answered, 0 to 1;
// false: there were no calls.
func (c Calls) FallbackShare() (float64, bool) {
	return min(1, float64(c.Fallback)/float64(max(1, c.Total()))), c.Total() > 0
}

func (c Calls) plus(d Calls) Calls {
	return Calls{c.Sent + d.Sent, c.Unsent + d.Unsent, c.Attempts + d.Attempts, c.Fallback + d.Fallback}
}

// less is what came since d; a count that is lower, of an upstream that was
// gone in between, counts from zero.
func (c Calls) less(d Calls) Calls {
	if c.Sent < d.Sent || c.Unsent < d.Unsent || c.Attempts < d.Attempts || c.Fallback < d.Fallback {
		return c
	}
	return Calls{c.Sent - d.Sent, c.Unsent - d.Unsent, c.Attempts - d.Attempts, c.Fallback - d.Fallback}
}

// tally is what is believed of the counts in one cell.
type tally struct {
	Calls
	seen    page.Traffic
	at      time.Duration // of the newest reading
	begun   bool
	doubted bool // it said what cannot be: nothing is believed from then on
}

// begin counts from what the cell says now: what came before was counted by an
// earlier agent, or for another limit.
func (c *tally) begin(t page.Traffic, now time.Duration) {
	if !c.begun {
		c.seen, c.at, c.begun = t, now, true
	}
}

// read takes in what was counted since the last reading. No call has more than
// most attempts. What cannot be ends all belief in this cell's counts, and is
// shown, so that one process's lies are not taken for others' calls.
func (c *tally) read(t page.Traffic, now time.Duration, most int) {
	if c.doubted || !c.begun {
		return
	}
	d := Calls{ // each wraps at 2^32
		Sent: uint64(t.Sent - c.seen.Sent), Unsent: uint64(t.Unsent - c.seen.Unsent),
		Attempts: uint64(t.Attempts - c.seen.Attempts), Fallback: uint64(t.Fallback - c.seen.Fallback),
	}
	next := c.plus(d)
	can := uint64(fastest * (now - c.at + time.Second).Seconds())
	switch {
	case d.Sent > can, d.Unsent > can,
		d.Attempts+1 < d.Sent, // attempts that overflow add one to the calls
		d.Attempts > d.Sent*uint64(most),
		next.Fallback > next.Total()+atOnce:
		c.doubted = true
		return
	}
	c.Calls, c.seen, c.at = next, t, now
}

// traffic is what an upstream's cells that are no more have counted.
type traffic struct {
	ended Calls
	most  int // attempts of one call, by any policy since the agent began
}

// trafficOf finds or makes that of an upstream.
func (a *allocator) trafficOf(name string) *traffic {
	t := a.traffic[name]
	if t == nil {
		if a.traffic == nil {
			a.traffic = make(map[string]*traffic)
		}
		t = &traffic{most: mostAttempts(a.policies, name)}
		a.traffic[name] = t
	}
	return t
}

// mostAttempts is how many a call may take: a hedged one takes two.
func mostAttempts(s *policies.Snapshot, name string) int {
	if u := s.Named(name); u != nil && u.Policy.Retry != nil {
		return max(2, u.Policy.Retry.MaxAttempts)
	}
	return 2
}

// countUp reads a holder's counts.
func (a *allocator) countUp(h *holder, now time.Duration) {
	if c := h.cellOf(); c != nil {
		h.counted.read(c.Traffic(), now, a.trafficOf(h.limit.name).most)
	}
}

// countEnded keeps what a holder that is dropped has counted.
func (a *allocator) countEnded(h *holder, now time.Duration) {
	a.countUp(h, now)
	t := a.trafficOf(h.limit.name)
	t.ended = t.ended.plus(h.counted.Calls)
}

// callsNow reads the counts of all processes, by upstream. Those of an upstream
// that is gone from the policies end with its last cell.
func (a *allocator) callsNow(now time.Duration) map[string]Calls {
	a.counted = now
	all := make(map[string]Calls, len(a.traffic))
	for name, t := range a.traffic {
		all[name] = t.ended
	}
	used := map[string]bool{}
	for _, l := range a.limits {
		for _, h := range l.holders {
			a.countUp(h, now)
			all[l.name] = all[l.name].plus(h.counted.Calls)
			used[l.name] = true
		}
	}
	for name := range all {
		if !used[name] && a.policies.Named(name) == nil {
			delete(all, name)
			delete(a.traffic, name)
		}
	}
	return all
}

// trafficPolicies follows a reload.
func (a *allocator) trafficPolicies(s *policies.Snapshot) {
	for name, t := range a.traffic {
		t.most = max(t.most, mostAttempts(s, name))
	}
}
