//go:build linux

package integration

import (
	"fmt"
	"testing"
)

// retryCost is what a retry reserves of the budget, and loses when it fails.
const retryCost = 14

// Eight processes whose every call fails retry as often as one process may,
// also when the agent dies in between.
func TestRetryBudget(t *testing.T) {
	const capacity, processes, calls = 280, 8, 60
	u := newUpstream(t, seeded(t))
	h := newHost(t, `version: 1
defaults:
  circuit_breaker: {disabled: true}
upstreams:
`+fmt.Sprintf("  shop:\n    match: [{host: %q}]\n    retry: {backoff: {base: 1ms}}\n    retry_budget: {capacity: %d}\n", u.host(), capacity))
	h.start()
	all := h.workers(processes)
	made := 0
	spread := func(each int) {
		before := u.count().calls
		for _, w := range all {
			w.call(u, pathFail, each)
		}
		made += each * processes
		u.further(max(0, each*processes-(u.count().calls-before)))
	}
	spread(1)
	h.sessions(processes)
	spread(calls)
	h.kill()
	h.start()
	spread(calls)
	for _, w := range all {
		if r := w.finish(); r.Failed != 0 || r.Calls != 2*calls+1 {
			t.Errorf("worker %s: %+v, want %d calls that all got the 503", w.name, r, 2*calls+1)
		}
		w.mustNotFail()
	}
	noneGranted(h)
	retries, most := u.count().calls-made, capacity/retryCost
	t.Logf("%d calls, %d retries, at most %d allowed", made, retries, most)
	if retries > most {
		t.Errorf("%d retries of %d failing calls, at most %d are in a budget of %d", retries, made, most, capacity)
	}
	// A process may die with part of the budget, and tokens left over in many
	// processes are too few for a retry; most of it is used.
	if retries < most*3/4 {
		t.Errorf("%d retries, want most of the %d that the budget has", retries, most)
	}
}
