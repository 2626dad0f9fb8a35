//go:build linux

package agent

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// UpstreamStatus is what is said of an upstream as a whole.
type UpstreamStatus struct {
	Name string `json:"name"`
	// Breaker says whose its circuits are: "host"; "proportional", where each
	// process refuses a part of the calls by itself; "process", each its own;
	// "off"; "removed": the policies do not name it any more.
	Breaker     string `json:"circuit_breaker"`
	OnAgentLoss string `json:"on_agent_loss,omitempty"` // hold, strict, local or open
	// Calls of the processes, from when the agent came to know each of them;
	// of those that have ended too.
	Calls CallStatus `json:"calls"`
	// Recent is the same of the last seconds: from the earliest look of
	// anybody in the last 10 s, else from the newest in the last minute. Nil:
	// nobody looked; ask again a second later.
	Recent    *RecentCalls `json:"recent,omitempty"`
	Processes int          `json:"processes"`
	// Counting are those that count calls: an older transport does not, nor
	// does a command of resagent exec.
	Counting int `json:"counting"`
	// Doubted are those whose counts cannot be: they are not in the sums.
	Doubted int `json:"doubted,omitempty"`
	// Busiest are the first of the processes: five, or as many as
	// ?processes=N says.
	Busiest []ProcessStatus `json:"busiest"`
}

// CallStatus is counts, and what they come to. Nil: not known, because there
// were no such calls.
type CallStatus struct {
	Calls
	Amplification *float64 `json:"amplification,omitempty"`  // attempts for each call that was sent
	FallbackShare *float64 `json:"fallback_share,omitempty"` // of all calls, 0 to 1
}

// RecentCalls are those of the last seconds.
type RecentCalls struct {
	Seconds float64 `json:"seconds"`
	CallStatus
}

// ProcessStatus is one process's use of an upstream.
type ProcessStatus struct {
	PID         int        `json:"pid"`
	UID         int        `json:"uid"`
	Command     string     `json:"command,omitempty"` // its name, as it says itself: quote it on a terminal
	Attached    bool       `json:"attached"`          // false: its connection is gone, and it may come back
	InUse       int        `json:"in_use"`            // permits of the bulkhead
	Waiting     int        `json:"waiting"`           // callers, or the tokens they wait for
	Calls       CallStatus `json:"calls"`
	Doubted     bool       `json:"doubted,omitempty"`      // its counts cannot be
	OwnTroubles uint64     `json:"own_troubles,omitempty"` // failures of its own resolver, certificates or descriptors

	start uint64
}

func statusOf(c Calls) CallStatus {
	s := CallStatus{Calls: c}
	if x, ok := c.Amplification(); ok {
		s.Amplification = &x
	}
	if x, ok := c.FallbackShare(); ok {
		s.FallbackShare = &x
	}
	return s
}

// statusAsked is GET /v1/status?processes=N.
func (a *Agent) statusAsked(w http.ResponseWriter, r *http.Request) {
	n := busiest
	if text := r.FormValue("processes"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 || n > maxProcesses {
			problem(w, http.StatusBadRequest, wrongQuery, "processes is wrong", fmt.Sprintf("processes: write a number from 0 to %d", maxProcesses))
			return
		}
	}
	s := a.status(n)
	nameCommands(s.Upstreams)
	reply(w, s)
}

// upstreams is what processes use, or somebody has changed. With the lock.
func (a *Agent) upstreams(processes int) []UpstreamStatus {
	now := a.now()
	calls := a.alloc.callsNow(now)
	recent, over := a.samples.since(now, calls)
	users := a.users(now)
	names := maps.Clone(calls) // and more names
	for name := range users {
		names[name] = Calls{}
	}
	for _, o := range a.overrides.list {
		names[o.Upstream] = Calls{}
	}
	for name := range a.forcedNow() {
		names[name] = Calls{}
	}
	for key := range a.circuits.all {
		names[key.upstream] = Calls{}
	}
	all := make([]UpstreamStatus, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s := UpstreamStatus{Name: name, Breaker: "removed", Calls: statusOf(calls[name]), Processes: len(users[name]), Busiest: []ProcessStatus{}}
		if u := a.snapshot.Named(name); u != nil {
			s.Breaker, s.OnAgentLoss = breakerOf(&u.Policy), string(u.Policy.OnAgentLoss)
		}
		if over > 0 {
			s.Recent = &RecentCalls{Seconds: over.Seconds(), CallStatus: statusOf(recent[name])}
		}
		for _, p := range users[name] {
			if p.Calls.Total() > 0 {
				s.Counting++
			}
			if p.Doubted {
				s.Doubted++
			}
			s.Busiest = append(s.Busiest, *p)
		}
		slices.SortFunc(s.Busiest, func(x, y ProcessStatus) int {
			return cmp.Or(cmp.Compare(y.InUse+y.Waiting, x.InUse+x.Waiting), cmp.Compare(y.Calls.Total(), x.Calls.Total()), cmp.Compare(x.PID, y.PID))
		})
		s.Busiest = slices.Clip(s.Busiest[:min(processes, len(s.Busiest))])
		all = append(all, s)
	}
	return all
}

func breakerOf(p *policies.Policy) string {
	switch b := p.CircuitBreaker; {
	case b == nil:
		return "off"
	case b.Mode == policies.ModeProportional:
		return "proportional"
	case b.Scope == policies.ScopeProcess:
		return "process"
	}
	return "host"
}

// users gives each upstream's processes. With the lock.
func (a *Agent) users(now time.Duration) map[string]map[*process]*ProcessStatus {
	all := map[string]map[*process]*ProcessStatus{}
	of := func(name string, p *process) *ProcessStatus {
		if all[name] == nil {
			all[name] = map[*process]*ProcessStatus{}
		}
		s := all[name][p]
		if s == nil {
			s = &ProcessStatus{PID: p.id.pid, UID: p.id.uid, Attached: p.session != nil, start: p.id.start}
			all[name][p] = s
		}
		return s
	}
	for _, l := range a.alloc.limits {
		for i, v := range a.alloc.read(l, now) {
			h := l.holders[i]
			s := of(l.name, h.process)
			if l.kind == wire.Bulkhead {
				s.InUse += v.inUse + v.extra
			}
			s.Waiting += v.waiting + v.due
			s.Calls.Calls = s.Calls.plus(h.counted.Calls)
			s.Doubted = s.Doubted || h.counted.doubted
		}
	}
	for key, c := range a.circuits.all {
		for p, one := range c.callers {
			of(key.upstream, p).OwnTroubles += one.ownTroubles()
		}
	}
	for _, users := range all {
		for _, s := range users {
			s.Calls = statusOf(s.Calls.Calls)
		}
	}
	return all
}

// nameCommands asks the kernel for the processes' names. A process that has
// ended meanwhile has none, though its number may be another's by now.
func nameCommands(all []UpstreamStatus) {
	known := map[int]string{}
	for i := range all {
		for j := range all[i].Busiest {
			p := &all[i].Busiest[j]
			if _, ok := known[p.PID]; !ok {
				known[p.PID] = command(p.PID, p.start)
			}
			p.Command = known[p.PID]
		}
	}
}

// command is the name of a process that started then, else nothing.
func command(pid int, start uint64) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if began, ok := statStart(stat); err != nil || !ok || began != start {
		return ""
	}
	// In brackets; the name may have some of its own.
	name := stat[bytes.IndexByte(stat, '(')+1 : bytes.LastIndexByte(stat, ')')]
	return strings.ToValidUTF8(string(name), "?")
}
