package policies

import (
	"path/filepath"
	"reflect"
	"slices"
)

// withoutEffect tells of values that the upstream writes and that change
// nothing, beside what else holds for it.
func (l *lint) withoutEffect() {
	none := func(path, because, want string) {
		if l.says(path) {
			l.warn("no-effect", because, want, path)
		}
	}
	p := l.p
	if b := p.CircuitBreaker; b != nil {
		if b.Mode == ModeProportional {
			for _, path := range []string{"failure_rate", "min_requests", "consecutive_failures", "slow_call_duration", "slow_call_rate", "open_for", "max_open_for", "half_open_requests"} {
				none("circuit_breaker."+path, "mode: proportional has no use for it: only window, multiplier, statuses and scope count", "leave it out, or write mode: trip")
			}
		} else {
			none("circuit_breaker.multiplier", "it is of mode: proportional, and the mode is trip", "leave it out, or write mode: proportional")
			if b.SlowCallDuration == 0 {
				none("circuit_breaker.slow_call_rate", "no call counts as slow: slow_call_duration is none", "write slow_call_duration too, such as 2s")
			}
		}
	}
	if b := p.Bulkhead; b != nil {
		if b.MaxWait == 0 && b.MaxWaiting > 0 {
			none("bulkhead.max_waiting", "max_wait is none, so no call waits", "leave it out, or write max_wait")
		}
		if b.MaxWaiting == 0 {
			none("bulkhead.max_wait", "max_waiting is none, so no call waits", "leave it out, or write max_waiting")
		}
		if b.Scope == ScopeProcess {
			none("bulkhead.max_share_per_uid", "with scope: process no user shares it with another", "leave it out, or write scope: host")
		}
		if p.OnAgentLoss != LossLocal || b.Scope == ScopeProcess {
			none("bulkhead.local_max_concurrent", "it is for on_agent_loss: local and scope: host", "leave it out, or write both")
		}
	}
	if r := p.RateLimit; r != nil && (p.OnAgentLoss != LossLocal || r.Scope == ScopeProcess) {
		none("rate_limit.local_rate", "it is for on_agent_loss: local and scope: host", "leave it out, or write both")
	}
	if x := p.Propagation; x != nil && x.AttemptHeader == "" && x.DeadlineHeader == "" {
		l.warn("no-effect", "neither header has a name, so none is sent", "write attempt_header: X-Attempt or deadline_header, or leave propagation out", "propagation")
	} else if x != nil && x.DeadlineHeader == "" {
		none("propagation.deadline_unit", "deadline_header has no name, so none is sent", "write deadline_header too")
	}
	if !l.hostLimits() {
		none("on_agent_loss", "there is no bulkhead and no rate_limit of scope: host that it would be about", "leave it out, or write such a limit")
	}
	l.disabled()
}

// disabled tells once of each section that the upstream disables and says more
// of. What the defaults say beside disabled: true is for upstreams that turn
// the section on. A drop-in that disables what an earlier file says is right, it
// has no other way; so the two count together where they stand in one file, and
// where what is said comes later: over the main file, or in a drop-in whose name
// sorts after that of the one that disables.
func (l *lint) disabled() {
	own := reflect.ValueOf(l.snapshot.set.Upstreams[l.name])
	origin, at := l.snapshot.set.Origin, join("upstreams", l.name)+"."
	for _, k := range keysOf[own.Type()] {
		section := own.Field(k.index)
		if section.Kind() != reflect.Pointer || section.IsNil() {
			continue
		}
		if disabled := section.Elem().FieldByName("Disabled"); !disabled.IsValid() || !disabled.Bool() {
			continue
		}
		off := origin[at+k.name+".disabled"]
		for _, value := range keysOf[section.Type().Elem()] {
			path := k.name + "." + value.name
			if value.name == "disabled" || section.Elem().Field(value.index).IsZero() ||
				off.File != origin[""].File && off.File != origin[at+path].File && !laterDropin(origin[at+path], off) {
				continue
			}
			l.warn("no-effect", k.name+" is disabled, so nothing else in it counts", "leave the rest out, or take disabled: true out", path)
			break
		}
	}
}

// laterDropin reports whether a is laid over b: both are in drop-ins of one folder.
// What an override says has no line.
func laterDropin(a, b Position) bool {
	return a.Line > 0 && b.Line > 0 && filepath.Dir(a.File) == filepath.Dir(b.File) && a.File > b.File
}

// hostLimits reports whether on_agent_loss says anything.
func (l *lint) hostLimits() bool {
	b, r, t := l.p.Bulkhead, l.p.RateLimit, l.p.RetryBudget
	return slices.Contains([]bool{
		b != nil && b.Scope != ScopeProcess,
		r != nil && r.Scope != ScopeProcess,
		t != nil && t.Scope != ScopeProcess && l.p.OnAgentLoss == LossOpen,
	}, true)
}
