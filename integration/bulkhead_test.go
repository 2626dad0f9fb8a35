//go:build linux

package integration

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/resagent/resagent/agent/wire"
)

// patient is a policy in which nothing but the stated limits plays a part,
// and callers wait for those as long as a test may take.
const patient = `version: 1
defaults:
  timeout: {attempt: 60s, total: 2m}
  retry: {disabled: true}
  circuit_breaker: {disabled: true}
upstreams:
`

// bulkhead is a set with one upstream, "shop", that has a bulkhead.
func bulkhead(u *upstream, limit int) string {
	return patient + fmt.Sprintf("  shop:\n    match: [{host: %q}]\n    bulkhead: {max_concurrent: %d, max_waiting: 1000, max_wait: 60s}\n", u.host(), limit)
}

// allFree waits until nothing of the limit is used, and nobody waits.
func allFree(h *host) {
	h.t.Helper()
	h.eventually("all permits free in resagent status --json", func() bool {
		out, problems, err := h.run("status", "--json")
		if err != nil {
			h.t.Fatalf("resagent status: %v\n%s", err, problems)
		}
		for _, l := range parseStatus(h.t, out).Limits {
			if l.Kind == wire.Bulkhead && (l.InUse != 0 || l.Extra != 0 || l.Waiting != 0) {
				return false
			}
		}
		return true
	})
}

// noneGranted waits until everything has come back from processes that ended.
func noneGranted(h *host) {
	h.t.Helper()
	h.eventually("nothing granted, and no session", func() bool {
		s := h.status()
		for _, l := range s.Limits {
			if l.Granted != 0 || l.Processes != 0 {
				return false
			}
		}
		return len(s.Sessions) == 0
	})
}

// jain is the fairness index of Jain, Chiu and Hawe (DEC TR-301, 1984): 1 when
// all parts are equal, 1/n when one has everything.
func jain(parts []int64) float64 {
	var sum, squares float64
	for _, p := range parts {
		sum += float64(p)
		squares += float64(p) * float64(p)
	}
	return sum * sum / (float64(len(parts)) * squares)
}

// Eight processes that ask for eight times the limit together get it, all of
// it, in equal parts, and never more.
func TestBulkhead(t *testing.T) {
	const limit, processes, measured = 10, 8, 2500
	// What a permit is held for and the upstream does not see is the way there
	// and back, which the race detector makes longer.
	leastUse, leastFair := 0.9, 0.95
	if raceDetector {
		leastUse = 0.75
	}
	random := seeded(t)
	use, fair := 0.0, 0.0
	// The limit holds in every try; how much of it is used depends on what
	// else this machine does, so that the best of three counts.
	for range 3 {
		u := newUpstream(t, random)
		h := newHost(t, bulkhead(u, limit))
		h.start()
		u.allow(limit)
		all := h.workers(processes)
		for _, w := range all {
			w.load(u, pathWork, limit)
		}
		h.sessions(processes)
		u.further(200)
		begin := u.count()
		u.further(measured)
		end := u.count()
		allParts := make([]int64, processes)
		for i, w := range all {
			allParts[i] = w.finish().OK
			w.mustNotFail()
		}
		allFree(h)
		noneGranted(h)
		use, fair = max(use, end.use(begin, limit)), max(fair, jain(allParts))
		t.Logf("most in flight %d of %d, use %.3f, Jain's index %.4f, %.0f calls/s", end.most, limit,
			end.use(begin, limit), jain(allParts), float64(end.calls-begin.calls)/(end.at-begin.at).Seconds())
		if end.most != limit {
			t.Errorf("at most %d in flight, want exactly the limit of %d", end.most, limit)
		}
		if use >= leastUse && fair >= leastFair || t.Failed() {
			break
		}
	}
	if use < leastUse {
		t.Errorf("%.3f of the limit was used while demand exceeded it, want at least %v", use, leastUse)
	}
	if fair < leastFair {
		t.Errorf("Jain's index is %.4f, want at least %v", fair, leastFair)
	}
}

// What a stopped process holds idle is taken from it; what it has in use
// stays counted until its calls end.
func TestBulkheadAndStoppedProcess(t *testing.T) {
	const limit = 6
	u := newUpstream(t, seeded(t))
	h := newHost(t, bulkhead(u, limit))
	h.start()
	u.allow(limit)
	stopped, other := h.worker(), h.worker()

	// It comes to hold all permits, and gives back none but by being asked.
	stopped.call(u, pathHold, limit)
	u.inFlight(limit)
	u.release()
	u.inFlight(0)
	u.hold()
	h.eventually("permits are idle in the first process", func() bool {
		l := h.limit("shop", wire.Bulkhead)
		return l.InUse == 0 && l.Available >= limit/2
	})
	stopped.signal(syscall.SIGSTOP)
	other.call(u, pathHold, limit)
	u.inFlight(limit)
	u.release()
	u.inFlight(0)
	stopped.signal(syscall.SIGCONT)

	// Now it is stopped with two calls in flight.
	u.hold()
	stopped.call(u, pathHold, 2)
	u.inFlight(2)
	stopped.signal(syscall.SIGSTOP)
	other.call(u, pathHold, limit)
	u.inFlight(limit)
	h.eventually("the two that are missing wait", func() bool { return h.limit("shop", wire.Bulkhead).Waiting == 2 })
	// Its calls end, and it does not notice: two permits are still its own,
	// and those that wait get the other four.
	u.release()
	h.eventually("all calls of the other process are over", func() bool {
		l := h.limit("shop", wire.Bulkhead)
		return l.InUse == 2 && l.Waiting == 0
	})
	stopped.signal(syscall.SIGCONT)
	h.eventually("all is over", func() bool { return u.count().inFlight == 0 && h.limit("shop", wire.Bulkhead).InUse == 0 })
	for _, w := range []*worker{stopped, other} {
		w.finish()
		w.mustNotFail()
	}
	if got, want := u.count().calls, 3*limit+2; got != want {
		t.Errorf("%d calls, want %d", got, want)
	}
	noneGranted(h)
}
