package transport

import (
	"net/http"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// told takes in that the upstream asks, by Retry-After, to come later: for all
// calls of the process, and with an agent for those of the host.
func (c *call) told(r *result) {
	p := c.rules.Retry
	if p == nil || p.Pause == policies.PauseOff || p.MaxRetryAfter == 0 || r.resp == nil ||
		r.status != http.StatusTooManyRequests && r.status != http.StatusServiceUnavailable {
		return
	}
	now := time.Now()
	d, ok := retryAfter(r.resp.Header.Get("Retry-After"), now)
	if !ok || d == 0 {
		return
	}
	d = min(d, p.MaxRetryAfter)
	until := int64(now.Sub(c.authority.born) + d)
	for {
		was := c.authority.paused.Load()
		if until <= was {
			return // and the host knows
		}
		if c.authority.paused.CompareAndSwap(was, until) {
			break
		}
	}
	if b := c.breaker(); b != nil && b.host != nil {
		b.host.Pause(d)
	}
}

// held is how much longer the upstream wants to be left alone, as this process
// or another of the host was told.
func (c *call) held() time.Duration {
	p := c.rules.Retry
	if p == nil || p.Pause == policies.PauseOff {
		return 0
	}
	var left time.Duration
	if until := time.Duration(c.authority.paused.Load()); until > 0 {
		left = until - time.Since(c.authority.born)
	}
	if b := c.breaker(); b != nil && b.host != nil {
		if until := b.host.PausedUntil(); until > 0 {
			left = max(left, until-client.SinceBoot(time.Now()))
		}
	}
	return min(max(0, left), p.MaxRetryAfter)
}

// paused refuses a first attempt where the policy says pause: all.
func (a *attempt) paused() error {
	c := a.c
	if p := c.rules.Retry; p == nil || p.Pause != policies.PauseAll {
		return nil
	}
	if left := c.held(); left > 0 {
		return a.refuse(&RejectedError{Upstream: c.up.name, Reason: ErrPaused, RetryAfter: left})
	}
	return nil
}

// wait holds a retry back whose own wait is over, if meanwhile another call was
// told to come later. False: the call's time, or its wait, ends before that, or
// it was held back for max_retry_after already: a process that goes on saying
// that it was told, true or not, would hold it for ever.
func (l *loop) wait() bool {
	began := l.c.since()
	for l.ctx.Err() == nil {
		held := l.c.held()
		if held == 0 {
			return true
		}
		if l.c.since()-began+held > l.c.rules.Retry.MaxRetryAfter {
			l.end(&RejectedError{Upstream: l.c.up.name, Reason: ErrPaused, RetryAfter: held})
			return false
		}
		held += time.Duration(l.c.random() * float64(l.c.rules.Retry.Backoff.ThrottledBase)) // not all at once
		if left, ok := l.c.left(); ok && held >= left {
			l.end(&RejectedError{Upstream: l.c.up.name, Reason: ErrPaused, RetryAfter: held})
			return false
		}
		timer := time.NewTimer(held)
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
		}
	}
	return false
}
