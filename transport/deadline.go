package transport

import "time"

// setDeadline fixes the end of waiting and of the beginning of attempts: the
// total timeout, or the caller's deadline if that is sooner.
func (c *call) setDeadline() {
	if p := c.rules.Timeout; p != nil {
		c.total = p.Total
	}
	c.deadline = c.total
	if d := c.callersDeadline(); !d.IsZero() {
		if left := max(1, d.Sub(c.start)); c.deadline == 0 || left < c.deadline {
			c.deadline = left
		}
	}
}

// callersDeadline is the zero time if there is none.
func (c *call) callersDeadline() time.Time {
	if !c.until.IsZero() {
		return c.until
	}
	d, _ := c.ctx.Deadline()
	return d
}

// left is the time to the deadline; ok is false if there is none.
func (c *call) left() (d time.Duration, ok bool) {
	if c.deadline == 0 {
		return 0, false
	}
	return c.deadline - c.since(), true
}

func (c *call) totalTimeout() error { return newTimeout(ErrTotalTimeout, c.up.name, c.total) }
