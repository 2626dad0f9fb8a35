package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// tryout is what changed limits would have done in the last minutes.
type tryout struct {
	Seconds int     `json:"seconds"` // that the agent saw
	Limits  []trial `json:"limits"`  // those that change
	// NotJudged are the other changes: the agent does not see calls, only what
	// limits are used for.
	NotJudged []policies.Change `json:"not_judged"`
}

// trial is one limit of the host, as it is and as it would be.
type trial struct {
	Upstream string    `json:"upstream"`
	Kind     wire.Kind `json:"kind"`
	Old      string    `json:"old"`
	New      string    `json:"new"`
	// NotKnown says why nothing can be said; the rest is zero then.
	NotKnown string `json:"not_known,omitempty"`
	// Peak is the most seen in use at once; of a rate, the most tokens taken in
	// a second; of a retry budget, the most tokens gone from it.
	Peak        int `json:"peak"`
	PeakWaiting int `json:"peak_waiting"`
	// Waited are seconds in which callers waited for the old limit.
	Waited int `json:"waited_seconds"`
	// Above are seconds in which more was asked for than the new limit has.
	Above int `json:"above_seconds"`
	// Affected would have waited or been refused: of a bulkhead, callers at the
	// worst moment; of a rate, calls in all; of a budget, retries at the worst
	// moment.
	Affected int `json:"affected"`
}

// hostLimit is what a policy says of a limit of the host; zero: there is none.
type hostLimit struct {
	max     int // permits, burst or tokens
	rate    policies.Rate
	process bool // there is one, and each process has it for itself
}

func hostLimitOf(u *policies.Upstream, kind wire.Kind) (l hostLimit) {
	scope := policies.ScopeHost
	switch b, r, t := u.Policy.Bulkhead, u.Policy.RateLimit, u.Policy.RetryBudget; {
	case kind == wire.Bulkhead && b != nil:
		l.max, scope = b.MaxConcurrent, b.Scope
	case kind == wire.RateLimit && r != nil:
		l.max, l.rate, scope = r.Burst, r.Rate, r.Scope
	case kind == wire.RetryBudget && t != nil:
		l.max, scope = t.Capacity, t.Scope
	}
	l.process = scope == policies.ScopeProcess
	return l
}

func (l hostLimit) String() string {
	switch {
	case l.max == 0:
		return "off"
	case l.rate > 0:
		return fmt.Sprintf("%s+%d%s", l.rate, l.max, l.each())
	}
	return fmt.Sprintf("%d%s", l.max, l.each())
}

func (l hostLimit) each() string {
	if l.process {
		return " each"
	}
	return ""
}

// judgedPaths are those that a trial is about.
var judgedPaths = []string{
	"bulkhead.max_concurrent", "bulkhead.scope", "rate_limit.rate", "rate_limit.burst", "rate_limit.scope",
	"retry_budget.capacity", "retry_budget.scope",
}

// tryOut judges a change from old to now by what was seen.
func tryOut(old, now *policies.Snapshot, seen agent.History) tryout {
	out := tryout{Seconds: seen.Seconds, Limits: []trial{}, NotJudged: []policies.Change{}}
	for _, u := range now.Upstreams() {
		before := old.Named(u.Name)
		if before == nil {
			continue // which is told below
		}
		for _, kind := range []wire.Kind{wire.Bulkhead, wire.RateLimit, wire.RetryBudget} {
			if was, is := hostLimitOf(before, kind), hostLimitOf(u, kind); was != is {
				out.Limits = append(out.Limits, tryLimit(u.Name, kind, was, is, seen))
			}
		}
	}
	changes, _ := now.Diff(old, policies.MaxUpstreams)
	for _, c := range changes {
		section, _, _ := strings.Cut(c.Path, ".")
		comes := (c.Old == "" || c.New == "") && slices.Contains([]string{"bulkhead", "rate_limit", "retry_budget"}, section)
		if !comes && !slices.Contains(judgedPaths, c.Path) {
			out.NotJudged = append(out.NotJudged, c)
		}
	}
	return out
}

func tryLimit(name string, kind wire.Kind, was, is hostLimit, seen agent.History) trial {
	t := trial{Upstream: name, Kind: kind, Old: was.String(), New: is.String()}
	switch {
	case was.max == 0 || was.process:
		t.NotKnown = "there is no such limit of the host now, and so nothing was counted"
		return t
	case is.process:
		t.NotKnown = "each process would have it for itself, and what each one used is not kept"
		return t
	}
	i := slices.IndexFunc(seen.Limits, func(h agent.LimitHistory) bool { return h.Upstream == name && h.Kind == kind })
	if i < 0 {
		return t // not used
	}
	h := seen.Limits[i]
	tokens := float64(is.max)
	for s := range h.InUse {
		use, waiting := h.InUse[s], h.Waiting[s]
		if kind == wire.RateLimit {
			use = h.Taken[s]
		}
		t.Peak, t.PeakWaiting = max(t.Peak, use), max(t.PeakWaiting, waiting)
		if waiting > 0 {
			t.Waited++
		}
		over := 0
		switch {
		case is.max == 0: // no limit any more
		case kind == wire.RateLimit:
			// A bucket of the new size, filled second by second.
			tokens += float64(is.rate)
			passes := min(use, int(tokens))
			over = use - passes
			tokens = min(tokens-float64(passes), float64(is.max))
			t.Affected += over
		case kind == wire.RetryBudget:
			over = use - is.max
			t.Affected = max(t.Affected, (over+13)/14) // tokens a retry takes
		default:
			over = use + waiting - is.max
			t.Affected = max(t.Affected, over)
		}
		if over > 0 {
			t.Above++
		}
	}
	return t
}
