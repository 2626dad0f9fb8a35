package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// evidence is what the demo's processes wrote down.
type evidence struct {
	Story     story
	Upstreams [3][]record // the first, the dead one, the one that came back
	Workers   [][]record
}

// measured is what the evidence comes to. NaN: it could not be measured.
type measured struct {
	Scenes []sceneMeasured
	// QuotesSecond and QuotesTenth are the most calls to quotes that were let go
	// in any second and in any 100 ms.
	QuotesSecond, QuotesTenth int

	// During the outage: original requests to orders that were attempted, and
	// the attempts that reached the dead upstream's port.
	Originals, Attempts int
	// The same of all routes; calls are all that the workers asked for.
	AllCalls, AllAttempts int
	// StaleCalls of CatalogCalls that began and ended in the outage.
	StaleCalls, CatalogCalls int

	// FirstFailure to LastAttempt before the circuits for catalog were open in
	// all workers, seconds.
	Stopped float64
	// Probes are the attempts at catalog after that, within ProbesFor seconds.
	Probes    int
	ProbesFor float64
	// Normal is how long after its return the upstream answered all workers
	// again, seconds.
	Normal float64

	RestartFailed int // calls that the agent's restart cost
	Failed        int // calls that failed, or got the fixed answer, while an upstream was there
	PermitsHeld   int // by the worker that was killed
	// PermitsBack is how long after the kill the limit was used whole again,
	// Drained how long after the reload all calls begun before it had ended;
	// seconds.
	PermitsBack, Drained float64
}

// sceneMeasured is what the upstream saw of catalog in a scene.
type sceneMeasured struct {
	Name  string
	Limit int
	Most  int
	// Use of the limit, averaged over time, of 1. NaN where it is not a
	// matter of the limit.
	Use       float64
	Stalled   float64 // part of the time that some process waited for a processor
	Abandoned int
	From, To  float64 // seconds since the demo began
}

func measure(e evidence) measured {
	m := measured{}
	drained := e.drained()
	m.Drained = (drained - e.Story.Reloaded).Seconds()
	m.scenes(e, drained)
	m.quotes(e)
	m.outage(e)
	m.stopping(e)
	m.calls(e)
	m.permits(e)
	return m
}

func (e evidence) scene(name string) scene {
	for _, s := range e.Story.Scenes {
		if s.Name == name {
			return s
		}
	}
	return scene{Name: name}
}

// drained is when the last of the calls to catalog ended that began before the
// new limit was in force.
func (e evidence) drained() time.Duration {
	tape, last := e.Upstreams[0], e.Story.Reloaded
	for _, r := range tape {
		if (r.Kind == left || r.Kind == abandoned) && r.Route == catalog && tape[r.Ref].at() <= e.Story.Reloaded {
			last = max(last, r.at())
		}
	}
	return last
}

// scenes looks at each scene for itself. The old limit holds until the calls
// begun under it have ended.
func (m *measured) scenes(e evidence, drained time.Duration) {
	byTime := e.merged()
	limit := demoLimit
	for _, s := range e.Story.Scenes {
		from, to := s.From, s.To
		counts := true // whether all of the limit is wanted and of use
		switch s.Name {
		case sceneWorker:
			to = drained
		case sceneLimit:
			from, limit = drained, demoLowered
		case sceneOutage:
			counts = false
		case sceneBack:
			from = e.Story.UpstreamBack
		}
		one := sceneMeasured{Name: s.Name, Limit: limit, Use: math.NaN(), From: (s.From - e.Story.Began).Seconds(), To: (s.To - e.Story.Began).Seconds(),
			Stalled: s.Stalled.Seconds() / (s.To - s.From).Seconds()}
		for _, r := range byTime {
			if r.Route != catalog || r.at() < from || r.at() >= to {
				continue
			}
			switch r.Kind {
			case came:
				one.Most = max(one.Most, int(r.Level))
			case abandoned:
				one.Abandoned++
			}
		}
		if s.Name == sceneBack {
			from += time.Duration(e.normal() * float64(time.Second))
		}
		if counts {
			one.Use = mean(byTime, from, to) / float64(limit)
		}
		m.Scenes = append(m.Scenes, one)
	}
}

// merged is what all upstreams wrote, in order of time.
func (e evidence) merged() []record {
	var all []record
	for _, tape := range e.Upstreams {
		for _, r := range tape {
			if r.When != 0 {
				all = append(all, r)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b record) int { return cmp.Compare(a.When, b.When) })
	return all
}

// mean is the number of calls to catalog in flight, averaged over the time
// from, to. NaN where that is no time.
func mean(byTime []record, from, to time.Duration) float64 {
	sum, level, last := 0.0, 0, from
	for _, r := range byTime {
		if r.Route != catalog {
			continue
		}
		if at := min(r.at(), to); at > last {
			sum += float64(level) * (at - last).Seconds()
			last = at
		}
		level = int(r.Level)
	}
	if to > last {
		sum += float64(level) * (to - last).Seconds()
	}
	return sum / (to - from).Seconds()
}

// quotes counts the calls to quotes in every window that begins with one. A
// call is dated by when its worker let it go: a busy machine delays one more
// than another on its way to the upstream, and that is not the limit's doing.
// One that the upstream died over may come again, without another token, from
// net/http itself: it is one call.
func (m *measured) quotes(e evidence) {
	letGo := map[uint64]time.Duration{}
	for _, tape := range e.Workers {
		for _, r := range tape {
			if r.Kind == called && r.Route == quotes && r.Attempts == 1 {
				letGo[r.ID] = r.began() + time.Duration(r.Waited)*time.Microsecond
			}
		}
	}
	seen := map[uint64]bool{}
	var times []time.Duration
	for _, r := range e.merged() {
		if r.Kind != came || r.Route != quotes || seen[r.ID] {
			continue
		}
		seen[r.ID] = true
		at, known := letGo[r.ID]
		if !known { // its worker was killed
			at = r.at()
		}
		times = append(times, at)
	}
	slices.Sort(times)
	m.QuotesSecond, m.QuotesTenth = most(times, time.Second), most(times, 100*time.Millisecond)
}

// most is the largest number of times in any window.
func most(times []time.Duration, window time.Duration) (n int) {
	first := 0
	for i, t := range times {
		for t-times[first] >= window {
			first++
		}
		n = max(n, i-first+1)
	}
	return n
}

// calls counts what went wrong while nothing was wrong with the upstream.
func (m *measured) calls(e evidence) {
	m.Normal = e.normal()
	healthy, calm := e.scene(sceneHealthy).From, e.scene(sceneCalm).From
	for _, tape := range e.Workers {
		for _, r := range tape {
			if r.Kind != called || r.Outcome == answered {
				continue
			}
			at := r.at()
			// What began while the upstream was slow may have waited too long for
			// that.
			if r.began() >= calm && at >= e.Story.AgentKilled[0] && at < e.Story.AgentBack[0]+2*time.Second {
				m.RestartFailed++
			}
			if at >= healthy && at < e.Story.UpstreamKilled && r.Outcome != stale {
				m.Failed++
			}
		}
	}
}

// permits finds the calls that the killed worker left behind, and when their
// places were taken by others.
func (m *measured) permits(e evidence) {
	m.PermitsBack = math.NaN()
	var gone time.Duration
	for _, r := range e.Upstreams[0] {
		if r.Kind == abandoned && r.Route == catalog && r.worker() == e.Story.Victim && r.at() >= e.Story.WorkerKilled {
			m.PermitsHeld++
			gone = max(gone, r.at())
		}
	}
	if gone == 0 {
		return
	}
	for _, r := range e.merged() {
		if r.Kind == came && r.Route == catalog && r.at() > gone && r.Level >= demoLimit && r.at() < e.Story.Reloaded {
			m.PermitsBack = (r.at() - e.Story.WorkerKilled).Seconds()
			return
		}
	}
}
