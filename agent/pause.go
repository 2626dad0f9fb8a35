//go:build linux

package agent

import (
	"fmt"
	"time"

	"github.com/resagent/resagent/policies"
)

// pause shows everybody that an upstream asked one process to come back after
// d. A longer pause stands; none is longer than the policy says, whoever asks.
func (a *Agent) pause(c *circuit, by *process, d, now time.Duration) {
	u := a.snapshot.Named(c.key.upstream)
	if u == nil || u.Policy.Retry == nil || u.Policy.Retry.Pause == policies.PauseOff {
		return
	}
	d = min(d, u.Policy.Retry.MaxRetryAfter)
	was := a.control.Pause(c.entry)
	if d <= 0 || now+d <= was {
		return
	}
	c.pausedBy = by.id.pid
	a.control.SetPause(c.entry, now+d)
	if was <= now {
		uid, pid := by.id.uid, by.id.pid
		a.events.add(Event{Kind: CircuitPaused, Upstream: c.key.upstream, UID: &uid, PID: pid,
			Text: fmt.Sprintf("%s: told to wait %v by Retry-After; held back: %s", c.key.authority, d, u.Policy.Retry.Pause)})
	}
}
