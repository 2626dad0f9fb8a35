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
	most := u.Policy.Retry.MaxRetryAfter
	d = min(d, most)
	was, uid := a.control.Pause(c.entry), by.id.uid
	one := c.asking(uid, now)
	if u.Policy.Retry.Pause == policies.PauseAll && c.ofOthers(uid) {
		d = min(d, one.began+most-now)
	}
	if d <= 0 || now+d <= was {
		return
	}
	if c.asked == nil {
		c.asked = map[int]asked{}
	}
	c.asked[uid] = asked{one.began, max(one.until, now+d)}
	c.pausedBy = by.id.pid
	a.control.SetPause(c.entry, now+d)
	if was <= now {
		pid := by.id.pid
		a.events.add(Event{Kind: CircuitPaused, Upstream: c.key.upstream, UID: &uid, PID: pid,
			Text: fmt.Sprintf("%s: told to wait %v by Retry-After; held back: %s", c.key.authority, d, u.Policy.Retry.Pause)})
	}
}

// asked is a time for which one user had all calls held back.
type asked struct{ began, until time.Duration }

// asking is the time that a user's word falls into: the newest, until it has
// been over for as long as it was, else a new one. Where others call too, one
// user's word holds them back for max_retry_after at a time: who lies without
// end has half of the time at most. A true Retry-After is told by the others'
// own processes as well.
func (c *circuit) asking(uid int, now time.Duration) asked {
	for uid, one := range c.asked {
		if now >= one.until+(one.until-one.began) {
			delete(c.asked, uid)
		}
	}
	if one, ok := c.asked[uid]; ok {
		return one
	}
	return asked{now, now}
}

// ofOthers says whether processes of other users than this call.
func (c *circuit) ofOthers(uid int) bool {
	for _, one := range c.callers {
		if one.uid != uid {
			return true
		}
	}
	return false
}
