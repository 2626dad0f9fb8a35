package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
)

// upstreamView is all that status and top show of one upstream.
type upstreamView struct {
	agent.UpstreamStatus
	bulkhead, rate, budget *agent.LimitStatus // nil: nobody uses one
	circuits               []agent.CircuitStatus
	overrides              []agent.Override
	forced                 *agent.Forced

	state   string
	trouble int       // the worse, the more; 0: all is well
	next    time.Time // of the earliest probe; zero: none is due
}

// upstreamViews joins what the agent says of each upstream. The worst comes
// first, then by name.
func upstreamViews(s agent.Status) []*upstreamView {
	var all []*upstreamView
	for _, u := range s.Upstreams {
		v := &upstreamView{UpstreamStatus: u, forced: s.Forced[u.Name]}
		for _, l := range s.Limits {
			if l.Upstream != u.Name {
				continue
			}
			switch l.Kind {
			case wire.Bulkhead:
				v.bulkhead = &l
			case wire.RateLimit:
				v.rate = &l
			case wire.RetryBudget:
				v.budget = &l
			}
		}
		for _, c := range s.Circuits {
			if c.Upstream == u.Name {
				v.circuits = append(v.circuits, c)
			}
		}
		for _, o := range s.Overrides {
			if o.Upstream == u.Name {
				v.overrides = append(v.overrides, o)
			}
		}
		v.judge()
		all = append(all, v)
	}
	slices.SortFunc(all, worst)
	return all
}

func worst(x, y *upstreamView) int {
	return cmp.Or(cmp.Compare(y.trouble, x.trouble), strings.Compare(x.Name, y.Name))
}

// How much trouble a state is.
const (
	isWell = iota
	isForcedClosed
	isPaused
	isClosing
	isHalfOpen
	isOpen
	isForcedOpen
)

// judge says in a word how the upstream is: as the worst of its authorities,
// with how many of them are so.
func (v *upstreamView) judge() {
	v.state = map[string]string{"host": "closed", "process": "own"}[v.Breaker]
	if v.state == "" {
		v.state = oneLine(v.Breaker)
	}
	same := len(v.circuits)
	set := func(trouble int, state string) {
		switch {
		case trouble > v.trouble:
			v.trouble, v.state, same = trouble, state, 1
		case trouble == v.trouble:
			same++
		}
	}
	for _, c := range v.circuits {
		switch {
		case c.Forced != nil:
		case c.State == "open":
			set(isOpen, "open")
			if v.next.IsZero() || c.Until.Before(v.next) {
				v.next = c.Until
			}
		case c.State == "half-open":
			set(isHalfOpen, "half-open")
		case c.State == "closing":
			set(isClosing, "closing")
		}
		if !c.PausedUntil.IsZero() {
			set(isPaused, "paused")
		}
	}
	switch {
	case v.forced != nil && v.forced.To == "open":
		v.trouble, v.state = isForcedOpen, "forced open"
	case v.forced != nil:
		v.trouble, v.state = isForcedClosed, "forced closed"
	case v.trouble > 0 && same < len(v.circuits):
		v.state += fmt.Sprintf(" %d/%d", same, len(v.circuits))
	}
}

// style of the state's word.
func (v *upstreamView) style() style {
	switch {
	case v.trouble >= isOpen:
		return bad
	case v.trouble > isWell:
		return warn
	case v.state == "closed":
		return good
	}
	return plain
}

// amplification and fallbackShare are those of the last seconds, else from the
// beginning; nil: not known.
func (v *upstreamView) amplification() *float64 {
	if v.Recent != nil {
		return v.Recent.Amplification
	}
	return v.Calls.Amplification
}

func (v *upstreamView) fallbackShare() *float64 {
	if v.Recent != nil {
		return v.Recent.FallbackShare
	}
	return v.Calls.FallbackShare
}

// perSecond is how many calls and attempts there were in the last seconds; nil:
// not known.
func (v *upstreamView) perSecond() (calls, attempts *float64) {
	if v.Recent == nil || v.Recent.Seconds <= 0 || v.Counting == 0 && v.Recent.Total() == 0 {
		return nil, nil
	}
	c, a := float64(v.Recent.Total())/v.Recent.Seconds, float64(v.Recent.Attempts)/v.Recent.Seconds
	return &c, &a
}

// waiting is how many callers wait for the bulkhead and the rate limit.
func (v *upstreamView) waiting() (n int) {
	for _, l := range []*agent.LimitStatus{v.bulkhead, v.rate} {
		if l != nil {
			n += l.Waiting
		}
	}
	return n
}

func (v *upstreamView) inUse() int {
	if v.bulkhead == nil {
		return 0
	}
	return v.bulkhead.InUse + v.bulkhead.Extra
}

// tokens is what the retry budget has left, with what lies idle in processes.
func (v *upstreamView) tokens() int {
	if v.budget == nil {
		return 0
	}
	return v.budget.Level + v.budget.Available
}
