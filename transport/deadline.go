package transport

import "time"

// setDeadline fixes the end of waiting and of the beginning of attempts: the
// total timeout, or the caller's deadline if that is sooner.
func (c *call) setDeadline() {
	if p := c.rules.Timeout; p != nil {
		c.total = p.Total
	}
	if c.deadline == 0 { // else ctx is detached from the caller's, and this is the caller's
		c.deadline = c.callersDeadline()
	}
	if c.deadline == 0 || c.total > 0 && c.total < c.deadline {
		c.deadline = c.total
	}
}

// callersDeadline is 0 if there is none.
func (c *call) callersDeadline() time.Duration {
	if d, ok := c.ctx.Deadline(); ok {
		return max(1, time.Until(d)+c.since()) // d may be of the wall clock only
	}
	return 0
}

// left is the time to the deadline; ok is false if there is none.
func (c *call) left() (d time.Duration, ok bool) {
	if c.deadline == 0 {
		return 0, false
	}
	return c.deadline - c.since(), true
}

func (c *call) totalTimeout() error { return newTimeout(ErrTotalTimeout, c.up.name, c.total) }
