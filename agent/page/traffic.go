package page

// Traffic is one reading of what a process counts of its calls to the cell's
// upstream. Each count only grows, and begins again at zero after 2^32-1. All
// zero: it had no calls, or is older than these counts.
type Traffic struct {
	Sent     uint32 // calls of which at least one attempt was sent
	Attempts uint32 // that were sent for them
	Unsent   uint32 // calls that the process answered or refused without one
	Fallback uint32 // calls of either kind that the fallback answered
}

// Count counts a call that has ended: in one step, or in two where it was sent
// and the fallback answered it all the same. The process's side.
func (c *Cell) Count(attempts int, fallback bool) {
	var answered uint64
	if fallback {
		answered = 1
	}
	switch {
	case attempts <= 0:
		c.unsent.Add(1<<32 | answered)
	default:
		c.sent.Add(1<<32 | uint64(uint32(attempts)))
		if fallback {
			c.unsent.Add(answered)
		}
	}
}

// Traffic reads each of the two words once, in an order in which no answer of
// the fallback is seen before its call. The agent's side.
func (c *Cell) Traffic() Traffic {
	unsent := c.unsent.Load()
	sent := c.sent.Load()
	return Traffic{Sent: uint32(sent >> 32), Attempts: uint32(sent), Unsent: uint32(unsent >> 32), Fallback: uint32(unsent)}
}
