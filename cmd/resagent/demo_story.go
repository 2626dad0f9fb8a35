package main

import "time"

// plan is how long each scene lasts.
type plan struct {
	healthy, slow, calm, agent, worker, limit, outage, back time.Duration
}

// planFor divides the whole time; below a scene's least time it would not show
// what it is for.
func planFor(whole time.Duration) plan {
	part := func(usual, least float64) time.Duration {
		share := usual * whole.Seconds() / demoDuration.Seconds()
		return time.Duration(max(share, least) * float64(time.Second))
	}
	return plan{
		healthy: part(5, 2), slow: part(5, 2), calm: part(1.8, 1.5), agent: part(4.5, 2.2),
		worker: part(3, 1.5), limit: part(4, 2), outage: part(11.5, 4.5), back: part(5.5, 4),
	}
}

// story is what was done when, on the clock of [monotonic].
type story struct {
	Began  time.Duration
	Scenes []scene
	// Agent restarts: killed, and serving again.
	AgentKilled, AgentBack [2]time.Duration
	WorkerKilled           time.Duration
	Victim                 int
	Reloaded               time.Duration // `resagent reload` returned
	UpstreamKilled         time.Duration
	UpstreamBack           time.Duration
}

// scene is one part of the play, until the next one begins.
type scene struct {
	Name     string
	From, To time.Duration
	Stalled  time.Duration // of that: some process of the host waited for a processor
}

// The scenes.
const (
	sceneHealthy = "healthy"
	sceneSlow    = "slow upstream"
	sceneCalm    = "fast again"
	sceneAgent   = "agent killed"
	sceneWorker  = "worker killed"
	sceneLimit   = "limit lowered"
	sceneOutage  = "upstream killed"
	sceneBack    = "upstream back"
)
