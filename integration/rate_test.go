//go:build linux

package integration

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// rateLimit is a set with one upstream, "shop", that has a rate limit; more is
// put behind it.
func rateLimit(u *upstream, rate, burst int, more string) string {
	return patient + fmt.Sprintf("  shop:\n    match: [{host: %q}]\n    rate_limit: {rate: %d/s, burst: %d, max_wait: 60s}\n%s", u.host(), rate, burst, more)
}

// fullest finds the window of a length in which most calls came.
func fullest(arrivals []time.Duration, window time.Duration) (most int, at time.Duration) {
	first := 0
	for i, a := range arrivals {
		for a-arrivals[first] >= window {
			first++
		}
		if n := i - first + 1; n > most {
			most, at = n, arrivals[first]
		}
	}
	return most, at
}

// Eight processes share a rate: no window has more than its bound, and the
// rate is used, also while the agent is killed and restarted and reloads.
//
// The limit is on calls begun. If the first of a window is longer on its way
// to the upstream than the last, the upstream sees them closer together, and
// what a machine that is busy with other things leaves of a rate unused is not
// the limit's doing: there are three tries to see it well.
func TestRateLimit(t *testing.T) {
	rateWell(t, 200, 20, 8, 0.9)
}

// TestRateLimitOfManyProcesses is the same with 32 processes, a rate of 500/s
// and a burst of 50. Only make soak has the machine for itself.
func TestRateLimitOfManyProcesses(t *testing.T) {
	least := 0.9
	if os.Getenv(soakEnv) != "" {
		least = 0.98
	}
	rateWell(t, 500, 50, 32, least)
}

func rateWell(t *testing.T, rate, burst, processes int, least float64) {
	t.Helper()
	random := seeded(t)
	most := 0.0
	for range 3 {
		way, use := rateOnce(t, random, rate, burst, processes)
		most = max(most, use)
		if way <= time.Duration(max(10, processes))*time.Millisecond && use >= least || t.Failed() {
			break
		}
	}
	if most < least {
		t.Errorf("%.3f of the rate was used, want at least %v", most, least)
	}
}

// rateOnce returns the longest that a call was on its way, and how much of the
// rate was used.
func rateOnce(t *testing.T, random *rand.Rand, rate, burst, processes int) (way time.Duration, use float64) {
	t.Helper()
	u := newUpstream(t, random)
	h := newHost(t, rateLimit(u, rate, burst, ""))
	h.start()
	all := h.workers(processes, stampEnv+"=1")
	started := u.count().at
	for _, w := range all {
		w.load(u, pathNow, 4)
	}
	h.sessions(processes)
	u.further(burst)
	begin := u.count()
	u.further(rate / 2)
	h.kill()
	h.start()
	u.further(rate / 2)
	h.reload(rateLimit(u, rate, burst, "  other:\n    match: [{host: other.test}]\n"))
	u.further(3 * rate / 2)
	end := u.count()
	for _, w := range all {
		w.finish()
		w.mustNotFail()
	}
	noneGranted(h)

	// Over the whole run the way does not matter: it makes calls later only.
	if most := burst + int(math.Ceil(float64(rate)*(end.at-started).Seconds())); end.calls > most {
		t.Errorf("%d calls in the first %v, at most %d are allowed", end.calls, end.at-started, most)
	}
	arrivals, way := u.times()
	late := int(time.Duration(rate)*way/time.Second) + 1
	for _, window := range []time.Duration{100 * time.Millisecond, time.Second} {
		bound := burst + int(time.Duration(rate)*window/time.Second)
		most, at := fullest(arrivals, window)
		t.Logf("at most %d calls in %v, bound %d; the longest on its way took %v", most, window, bound, way)
		if most > bound+late {
			t.Errorf("%d calls in the %v from %v on, at most %d are allowed, and %d more for a way of %v; began %v apart",
				most, window, at, bound, late, way, gaps(arrivals, at, most))
		}
	}
	use = float64(end.calls-begin.calls) / (end.at - begin.at).Seconds() / float64(rate)
	t.Logf("%.3f of the rate used", use)
	return way, use
}

// gaps lists the times between n arrivals from at on.
func gaps(arrivals []time.Duration, at time.Duration, n int) (all []time.Duration) {
	i := slices.Index(arrivals, at)
	for k := i + 1; k < i+n && k < len(arrivals); k++ {
		all = append(all, (arrivals[k] - arrivals[k-1]).Round(100*time.Microsecond))
	}
	return all
}

// No more than a rate is used of it with a burst of one, by processes of one
// caller each. How much less it logs and does not judge, for that is the
// machine's too: each moment by which a call is late is lost. With SOAK it says
// so of many limits, for a machine that does nothing else: DESIGN.md.
func TestSmallBursts(t *testing.T) {
	random := seeded(t)
	if os.Getenv(soakEnv) != "" {
		for _, rate := range []int{10, 50, 200, 1000} {
			for _, burst := range []int{1, 2, 10} {
				for _, processes := range []int{1, 2, 8} {
					t.Logf("%4d/s, burst %2d, %d processes: %.3f", rate, burst, processes, useOf(t, random, rate, burst, processes, 32/processes))
				}
			}
		}
	}
	use := useOf(t, random, 200, 1, 8, 1)
	if t.Logf("%.3f of 200/s used", use); use > 1.02 { // calls come later than their tokens, some more than others
		t.Errorf("%.3f of a rate of 200/s with a burst of 1 was used", use)
	}
}

// useOf is how much of a rate is used by calls of 1 to 20 ms.
func useOf(t *testing.T, random *rand.Rand, rate, burst, processes, callers int) float64 {
	t.Helper()
	u := newUpstream(t, random)
	h := newHost(t, rateLimit(u, rate, burst, ""))
	h.start()
	all := h.workers(processes)
	for _, w := range all {
		w.load(u, pathWork, callers)
	}
	h.sessions(processes)
	u.further(burst + rate/10)
	begin := u.count()
	u.further(2 * rate)
	end := u.count()
	for _, w := range all {
		w.finish()
		w.mustNotFail()
	}
	h.kill()
	return float64(end.calls-begin.calls) / (end.at - begin.at).Seconds() / float64(rate)
}
