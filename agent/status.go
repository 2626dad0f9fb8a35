//go:build linux

package agent

import (
	"cmp"
	"os"
	"slices"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// Status is what /v1/status says. Its names in JSON are stable; a newer agent
// may say more.
type Status struct {
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Generation uint64    `json:"generation"`
	ETag       string    `json:"etag"`
	Named      int       `json:"named"`                    // upstreams in the policies
	Refused    string    `json:"reload_refused,omitempty"` // why the last reload was
	Ledger     string    `json:"ledger"`                   // "kept", or "lost" where an earlier one was
	// Upstreams are those that processes use, or somebody has changed, in
	// order of their names. What Limits, Circuits, Overrides and Forced say of
	// one is not repeated in it.
	Upstreams []UpstreamStatus `json:"upstreams"`
	Sessions  []SessionStatus  `json:"sessions"`
	Limits    []LimitStatus    `json:"limits"`
	Circuits  []CircuitStatus  `json:"circuits"`
	Overrides []Override       `json:"overrides,omitempty"`
	// Refusals are of sessions and connections since the start, one for each
	// reason that there was.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Forced is what persons decided, by upstream.
	Forced map[string]*Forced `json:"forced,omitempty"`
}

// SessionStatus is one process that is attached.
type SessionStatus struct {
	PID    int       `json:"pid"`
	UID    int       `json:"uid"`
	Since  time.Time `json:"since"`
	Shares bool      `json:"shares"` // false: policies only
}

// LimitStatus is one limit of the host, as its cells say at this moment.
type LimitStatus struct {
	Upstream  string    `json:"upstream"`
	Kind      wire.Kind `json:"kind"`
	Limit     int       `json:"limit"`     // permits, burst, or capacity in tokens
	Granted   int       `json:"granted"`   // out in the pages of processes
	InUse     int       `json:"in_use"`    // of those, used now
	Available int       `json:"available"` // of those, idle
	Extra     int       `json:"extra"`     // used beyond them: from before the agent came
	Waiting   int       `json:"waiting"`   // callers, or the tokens they wait for
	Level     int       `json:"level"`     // tokens left here; 0 for a bulkhead
	Processes int       `json:"processes"`
	// PerSecond is how many tokens a rate limit brings, by its policy; 0: it is
	// none.
	PerSecond float64 `json:"per_second,omitempty"`
}

// busiest is how many processes of an upstream are named where nobody says how
// many.
const busiest = 5

// Status reads everything once, the pages of all processes too.
func (a *Agent) Status() Status {
	s := a.status(busiest)
	nameCommands(s.Upstreams)
	return s
}

// status names at most so many processes of each upstream.
func (a *Agent) status(processes int) Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{
		PID: os.Getpid(), Started: a.started, Generation: a.generation,
		ETag: a.snapshot.ETag(), Named: a.snapshot.Len(), Refused: a.refused, Ledger: "kept",
		Sessions: []SessionStatus{}, Limits: []LimitStatus{}, Overrides: a.overrides.list, Refusals: a.refusals.list(),
	}
	if a.alloc.ledger.lost {
		s.Ledger = "lost"
	}
	s.Circuits = a.circuitStatus()
	s.Forced = a.forcedNow()
	for one := range a.sessions {
		s.Sessions = append(s.Sessions, SessionStatus{PID: one.peer.pid, UID: one.peer.uid, Since: one.since, Shares: one.proc != nil})
	}
	for _, l := range a.alloc.limits {
		s.Limits = append(s.Limits, a.limitStatus(l))
	}
	s.Upstreams = a.upstreams(processes)
	slices.SortFunc(s.Sessions, func(x, y SessionStatus) int { return cmp.Compare(x.PID, y.PID) })
	slices.SortFunc(s.Limits, func(x, y LimitStatus) int {
		return cmp.Or(cmp.Compare(x.Upstream, y.Upstream), cmp.Compare(x.Kind, y.Kind))
	})
	return s
}

func (a *Agent) limitStatus(l *limit) LimitStatus {
	now := a.now()
	if l.kind == wire.RetryBudget && !l.removed { // with what was earned since somebody asked
		a.alloc.lookBudget(l, now)
	}
	s := LimitStatus{Upstream: l.name, Kind: l.kind, Limit: l.capacity, Processes: len(l.holders)}
	for _, v := range a.alloc.read(l, now) {
		s.Granted += v.granted
		s.InUse += v.inUse
		s.Available += v.available
		s.Extra += v.extra
		s.Waiting += v.waiting + v.due
	}
	switch l.kind {
	case wire.RateLimit:
		s.PerSecond = float64(time.Second) / float64(max(1, l.every))
		s.Level = max(0, min(a.alloc.tokens(l, now), l.capacity-s.Granted))
	case wire.RetryBudget:
		s.Level = a.alloc.ledger.level(l.slot)
	}
	return s
}
