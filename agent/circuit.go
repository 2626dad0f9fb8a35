//go:build linux

package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

const (
	// glance is how often a circuit is looked at while calls fail.
	glance = 5 * time.Millisecond
	// calm is how long no call may fail before nobody looks any more.
	calm = time.Second
	// probeTime is how long a probe may take before it counts as failed.
	probeTime = page.ProbeTime
	// lonely is how long a half-open circuit is kept that no process has a
	// cell of: those of an agent that was here before come back sooner.
	lonely = time.Minute
)

// circuitKey names a circuit of the host.
type circuitKey struct{ upstream, authority string }

// circuit is the state of one authority for the whole host. Its methods are
// called with the agent's lock held and the time since boot; show is told of
// each change of the word.
type circuit struct {
	key     circuitKey
	entry   int // in the control page
	set     policies.CircuitBreaker
	callers map[*process]*caller

	word   page.Circuit
	why    string        // of the newest change
	since  time.Duration // of the newest change
	opens  int           // since it was last well
	cause  string        // why it opened the first of these times
	looked bool          // somebody looked a glance ago
	failed time.Duration // when a call was last seen to fail
	next   time.Duration // when to come again; 0: when told
	forced *Forced       // by a person; nil: automatic

	pausedBy int           // the pid that made the pause what it is
	asked    map[int]asked // by uid: the pauses that it brought about

	probes []trial
	probed uint64        // the number of the newest probe
	good   int           // probes of this epoch that succeeded
	freed  time.Duration // when one last came to nothing

	show   func(*circuit)
	random func(n int64) int64 // even over [0, n); nil: math/rand's
}

// trial is one call, a probe, that may pass a half-open circuit.
type trial struct {
	number  uint64
	of      *process
	session *session // that it was given in, and in which alone its outcome comes
	ends    time.Duration
}

// unheard: its outcome went with its connection, and says nothing.
func (t trial) unheard() bool { return t.session != t.of.session }

func (c *circuit) change(s page.State, until, now time.Duration, why string) {
	c.word = page.NewCircuit(s, c.forced != nil, max(1, (c.word.Epoch()+1)&0x1fff), until)
	c.why, c.since = why, now
	c.probes, c.good = nil, 0
	c.show(c)
}

// dirty: a call has failed.
func (c *circuit) dirty(now time.Duration) {
	if c.next == 0 || c.next > now+glance {
		c.next = now
	}
	c.failed = now
}

// tick does what is due, and sets next.
func (c *circuit) tick(now time.Duration) {
	if c.forced != nil {
		c.next = c.forced.until
		if now < c.forced.until {
			return
		}
		c.release(now, "the order to have it "+c.forced.To+" has ended: its time is over")
	}
	switch until := c.word.Until(); c.word.State() {
	case page.CircuitOpen:
		c.next = until
		if now >= until {
			c.change(page.CircuitHalfOpen, 0, now, "its time is over: probes are let through")
			c.next = c.forgotten()
		}
	case page.CircuitHalfOpen:
		c.next = 0
		was := len(c.probes)
		if c.probes = slices.DeleteFunc(c.probes, func(p trial) bool { return now >= p.ends && p.unheard() }); len(c.probes) < was {
			c.freed = now
		}
		for _, p := range c.probes {
			if now >= p.ends {
				c.open(now, fmt.Sprintf("the probe of pid %d did not end in %v", p.of.id.pid, probeTime))
				return
			}
			if c.next == 0 || p.ends < c.next {
				c.next = p.ends
			}
		}
		if end := c.forgotten(); end > now {
			c.next = end
		}
	case page.CircuitClosing:
		if now >= until {
			c.opens = 0
			c.change(page.CircuitClosed, 0, now, "well again: all calls pass")
		}
		c.watch(now)
		if c.word.State() == page.CircuitClosing && (c.next == 0 || c.next > until) {
			c.next = until
		}
	case page.CircuitClosed:
		c.watch(now)
	}
}

// forgotten is when a half-open circuit that nobody can probe is dropped; 0: it
// has callers.
func (c *circuit) forgotten() time.Duration {
	if len(c.callers) > 0 {
		return 0
	}
	return c.since + lonely
}

// watch looks at the callers as long as calls fail, and opens the circuit on
// their evidence.
func (c *circuit) watch(now time.Duration) {
	if c.set.Mode == policies.ModeProportional { // each process judges for itself
		c.anew(now) // for the time when it is on or off again
		c.next = 0
		return
	}
	var all []evidence
	looked := c.looked
	for _, one := range c.callers {
		before := one.seen
		one.read(now, c.set.Window, looked)
		if one.seen.Bad != before.Bad || one.seen.Slow != before.Slow {
			c.failed = now
		}
		all = append(all, one.says(now, c.set.Window))
	}
	if why := verdict(&c.set, all); why != "" {
		c.open(now, why)
		return
	}
	if now-c.failed < calm {
		c.looked, c.next = true, now+glance
		return
	}
	// Clean first, then a last look: a failure in between is seen or told.
	c.looked, c.next = false, 0
	for _, one := range c.callers {
		one.cell.Clean()
		if t := one.cell.Read(); t.Bad != one.seen.Bad || t.Slow != one.seen.Slow {
			c.looked, c.next = true, now+glance
		}
	}
}

// open opens it, for longer each time.
func (c *circuit) open(now time.Duration, why string) {
	if c.opens++; c.opens == 1 {
		c.cause = why
	} else if c.cause != "" {
		why += "; at first: " + c.cause
	}
	d := c.set.OpenFor
	for range c.opens - 1 {
		d = min(2*d, max(c.set.OpenFor, c.set.MaxOpenFor))
	}
	random := c.random
	if random == nil {
		random = rand.Int64N
	}
	d += time.Duration(random(int64(d)/10 + 1))
	c.change(page.CircuitOpen, now+d, now, why)
	c.looked, c.next = false, now+d
}

// ask gives a process a probe, or 0.
func (c *circuit) ask(p *process, now time.Duration) uint64 {
	if c.word.State() == page.CircuitOpen && c.forced == nil {
		c.tick(now)
	}
	if c.word.State() != page.CircuitHalfOpen || len(c.probes)+c.good >= max(1, c.set.HalfOpenRequests) || c.comesLater(p, now) {
		return 0
	}
	if one := c.callers[p]; one != nil {
		one.probed = true
	}
	c.probed++
	c.probes = append(c.probes, trial{number: c.probed, of: p, session: p.session, ends: now + probeTime})
	if c.next == 0 || c.next > now+probeTime {
		c.next = now + probeTime
	}
	return c.probed
}

// comesLater says whether others come before a process that had a probe of
// which no success came: else one whose own trouble, or lie, fails its probes
// could keep the circuit open for all. Nobody who wants one waits for long.
func (c *circuit) comesLater(p *process, now time.Duration) bool {
	if one := c.callers[p]; one == nil || !one.probed || now-max(c.since, c.freed) >= c.set.OpenFor/10 {
		return false
	}
	for _, one := range c.callers {
		if !one.probed {
			return true
		}
	}
	for _, one := range c.callers { // each had one: from the beginning
		one.probed = false
	}
	return false
}

// probeEnded takes the outcome of a probe. One that is not known, or another
// process's, says nothing.
func (c *circuit) probeEnded(p *process, number uint64, outcome string, now time.Duration) {
	if c.word.State() != page.CircuitHalfOpen {
		return
	}
	for i, one := range c.probes {
		if one.number != number || one.of != p {
			continue
		}
		c.probes = append(c.probes[:i:i], c.probes[i+1:]...)
		switch outcome {
		case "success":
			if one := c.callers[p]; one != nil {
				one.probed = false
			}
			if c.good++; c.good >= max(1, c.set.HalfOpenRequests) {
				c.close(now, fmt.Sprintf("the probe of pid %d succeeded", p.id.pid))
			}
		case "failure":
			c.open(now, fmt.Sprintf("the probe of pid %d failed", p.id.pid))
		default:
			c.freed = now
		}
		return
	}
}

// close lets a growing part of the calls through.
func (c *circuit) close(now time.Duration, why string) {
	c.anew(now)
	c.next = now + page.ClosingTime
	c.change(page.CircuitClosing, c.next, now, why)
}

// anew forgets what was counted.
func (c *circuit) anew(now time.Duration) {
	for _, one := range c.callers {
		one.anew(now)
		one.cell.Clean()
	}
	c.looked, c.failed = false, 0
}

// left is the end of a process: what it probed is free for another.
func (c *circuit) left(p *process) {
	delete(c.callers, p)
	for i := 0; i < len(c.probes); {
		if c.probes[i].of == p {
			c.probes = append(c.probes[:i:i], c.probes[i+1:]...)
		} else {
			i++
		}
	}
}

// Forced is what a person decided about a circuit.
type Forced struct {
	To     string    `json:"to"`             // "open" or "closed"
	Until  time.Time `json:"until,omitzero"` // zero: automatic
	By     string    `json:"by"`             // the user that asked, as the kernel says it
	Reason string    `json:"reason,omitempty"`

	until time.Duration // since boot
}

// force puts a person's decision in force.
func (c *circuit) force(f *Forced, now time.Duration) {
	c.forced = f
	s := page.CircuitClosed
	if f.To == "open" {
		s = page.CircuitOpen
	}
	c.change(s, f.until, now, "by "+f.By+": "+f.Reason)
	c.next = f.until
}

// release goes back to deciding by evidence, beginning closed.
func (c *circuit) release(now time.Duration, why string) {
	c.forced, c.opens = nil, 0
	c.anew(now)
	c.change(page.CircuitClosed, 0, now, why)
	c.next = 0
}
