package transport

import (
	"time"

	"github.com/resagent/resagent/agent/client"
)

// epoch is when the process began to count.
var epoch = time.Now()

// clock is the time for measuring what passes. It reads one clock, time.Now two:
// its wall clock goes wrong when the host's is set.
func clock() time.Time { return epoch.Add(time.Since(epoch)) }

// phase of an attempt: what its alarm watches over.
type phase uint8

const (
	waiting  phase = iota // for a permit and a token
	sent                  // to the base, no headers yet
	headers               // the caller has the response and is not reading
	reading               // a Read waits for the body
	draining              // we read the rest of a response that nobody wants
)

// drainTime is how long the rest of a discarded response may take.
const drainTime = 100 * time.Millisecond

// unknown is an attempt's since before it is let through, and after if that
// took time.
const unknown = -1

// startClock begins the attempt timeout: what was waited in our own queue is
// not the upstream's.
func (a *attempt) startClock() {
	now := a.since
	if now == unknown {
		now = a.c.since()
	}
	a.mu.Lock()
	a.phase, a.since = sent, now
	a.arm(now)
	a.mu.Unlock()
}

// arm sees to it that the alarm strikes when something may become due, or
// sooner. Call it with a.mu held.
func (a *attempt) arm(now time.Duration) {
	due, _ := a.due()
	if due == 0 || a.fires != 0 && a.fires <= due {
		return
	}
	a.fires = due
	a.c.alarm(a, now)
}

// alarm has a's alarm strike when a.fires says.
func (c *call) alarm(a *attempt, now time.Duration) {
	born := c.start.Sub(epoch)
	c.t.alarms.of(a).set(a, born+a.fires, born+now)
}

// due says when, since the call began, the alarm has to strike as things are
// now, and with what. 0: not at all. Call it with a.mu held.
func (a *attempt) due() (time.Duration, error) {
	p, total := a.c.rules.Timeout, a.c.total
	if p == nil && a.phase != draining {
		return 0, nil
	}
	switch a.phase {
	case waiting:
		return total, ErrTotalTimeout
	case sent:
		due, err := attemptDue(p.Attempt, total, a.since, time.Duration(a.moved.Load()))
		if p := a.probe; p != nil && (due == 0 || p.ends < due) {
			return p.ends, ErrAttemptTimeout
		}
		return due, err
	case reading:
		if p.Idle > 0 && a.idles {
			return a.since + p.Idle, ErrIdleTimeout
		}
	case draining:
		return a.since + drainTime, ErrIdleTimeout
	}
	return 0, nil
}

// attemptDue says when an attempt that was sent at begun is cut off. As long
// as its request body moves, neither timeout cuts it; then it has the attempt
// timeout, or where there is none the total one, from the last movement on.
func attemptDue(limit, total, begun, moved time.Duration) (time.Duration, error) {
	switch {
	case moved > 0 && limit > 0:
		return max(begun, moved) + limit, ErrAttemptTimeout
	case moved > 0 && total > 0:
		return moved + total, ErrTotalTimeout
	case limit > 0 && (total == 0 || begun+limit <= total):
		return begun + limit, ErrAttemptTimeout
	case total > 0:
		return total, ErrTotalTimeout
	}
	return 0, nil
}

// fire is what the alarm does.
func (a *attempt) fire() {
	a.mu.Lock()
	due, kind := a.due()
	if due == 0 || a.ended.Load() || a.struck != nil {
		a.fires = 0
		a.mu.Unlock()
		return
	}
	if now := a.c.since(); now < due {
		a.fires = due
		a.c.alarm(a, now)
		a.mu.Unlock()
		return
	}
	p := a.c.rules.Timeout
	switch kind {
	case ErrTotalTimeout:
		a.struck = a.c.totalTimeout()
	case ErrAttemptTimeout:
		limit := p.Attempt
		if a.probe != nil && due == a.probe.ends {
			limit = client.ProbeTime
		}
		a.struck = newTimeout(kind, a.c.up.name, limit)
	default:
		idle := drainTime
		if a.phase == reading {
			idle = p.Idle
		}
		a.struck = newTimeout(kind, a.c.up.name, idle)
	}
	struck, inBody := a.struck, a.phase >= reading
	a.mu.Unlock()
	a.life.end(struck)
	if u := a.c.upload; u != nil && !inBody {
		u.interrupt(a)
	}
	if inBody {
		// A base that does not watch the context between the headers and the
		// end of the body lets go of the Read when the body is closed.
		a.body.closeOnce()
	}
}

// enter changes the phase, and says what struck before it could.
func (a *attempt) enter(ph phase) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.struck != nil {
		return a.struck
	}
	was := a.phase
	a.phase = ph
	if ph == reading || ph == draining && was != draining {
		a.since = a.c.since()
		a.arm(a.since)
	}
	return nil
}
