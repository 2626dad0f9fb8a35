package main

import (
	"math"
	"time"
)

// outage counts what reached the dead upstream's port, and what the workers'
// calls got instead.
func (m *measured) outage(e evidence) {
	originals := map[uint64]bool{}
	for _, r := range e.Upstreams[1] {
		if r.Kind != came {
			continue
		}
		m.AllAttempts++
		if r.Route == orders {
			originals[r.ID] = true
			m.Attempts++
		}
	}
	m.Originals = len(originals)
	for _, tape := range e.Workers {
		for _, r := range tape {
			if r.Kind != called || r.began() < e.Story.UpstreamKilled || r.at() >= e.Story.UpstreamBack {
				continue
			}
			m.AllCalls++
			if r.Route != catalog {
				continue
			}
			m.CatalogCalls++
			if r.Outcome == stale {
				m.StaleCalls++
			}
		}
	}
}

// began is when a call began.
func (r record) began() time.Duration { return r.at() - time.Duration(r.Ref)*time.Microsecond }

// stopping finds when the last worker stopped calling catalog.
func (m *measured) stopping(e evidence) {
	m.Stopped, m.ProbesFor = math.NaN(), math.NaN()
	var first, all time.Duration
	for i, tape := range e.Workers {
		var open time.Duration
		for _, r := range tape {
			if r.When == 0 || r.Route != catalog || r.at() < e.Story.UpstreamKilled || r.at() >= e.Story.UpstreamBack {
				continue
			}
			switch {
			case r.Kind == failed && (first == 0 || r.at() < first):
				first = r.at()
			case r.Kind == opened && open == 0:
				open = r.at()
			}
		}
		if open == 0 && i != e.Story.Victim {
			return // it never stopped
		}
		all = max(all, open)
	}
	if first == 0 {
		return
	}
	// An attempt belongs to the time before if its call does: it may have been
	// on its way when the last circuit opened.
	began := map[uint64]time.Duration{}
	for _, tape := range e.Workers {
		for _, r := range tape {
			if r.Kind == called {
				began[r.ID] = r.began()
			}
		}
	}
	last := first
	for _, r := range e.Upstreams[1] {
		if r.Kind != came || r.Route != catalog {
			continue
		}
		from, known := began[r.ID]
		if !known {
			from = r.at()
		}
		if from <= all {
			last = max(last, r.at())
		} else {
			m.Probes++
		}
	}
	m.Stopped = (last - first).Seconds()
	m.ProbesFor = (e.Story.UpstreamBack - all).Seconds()
}

// normal is how long it took from the upstream's return until it had answered
// every worker's calls again, on each route: seconds. NaN: it never did.
func (e evidence) normal() float64 {
	last := e.Story.UpstreamBack
	for i, tape := range e.Workers {
		if i == e.Story.Victim {
			continue
		}
		var first [routes]time.Duration
		for _, r := range tape {
			if r.Kind == called && r.Outcome == answered && r.at() >= e.Story.UpstreamBack && first[r.Route] == 0 {
				first[r.Route] = r.at()
			}
		}
		for _, at := range first {
			if at == 0 {
				return math.NaN()
			}
			last = max(last, at)
		}
	}
	return (last - e.Story.UpstreamBack).Seconds()
}
