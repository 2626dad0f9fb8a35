//go:build linux

package integration

import (
	"fmt"
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
func TestRateLimit(t *testing.T) {
	const rate, burst, processes = 200, 20, 8
	u := newUpstream(t, seeded(t))
	h := newHost(t, rateLimit(u, rate, burst, ""))
	h.start()
	all := h.workers(processes)
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

	arrivals := u.times()
	for _, window := range []time.Duration{100 * time.Millisecond, time.Second} {
		bound := burst + int(rate*window/time.Second)
		most, at := fullest(arrivals, window)
		t.Logf("at most %d calls in %v, bound %d", most, window, bound)
		if most > bound {
			t.Errorf("%d calls in the %v from %v on, at most %d are allowed; began %v apart", most, window, at, bound, gaps(arrivals, at, most))
		}
	}
	use := float64(end.calls-begin.calls) / (end.at - begin.at).Seconds() / rate
	t.Logf("%.3f of the rate used", use)
	if use < 0.9 {
		t.Errorf("%.3f of the rate was used, want at least 0.9", use)
	}
}

// gaps lists the times between n arrivals from at on.
func gaps(arrivals []time.Duration, at time.Duration, n int) (all []time.Duration) {
	i := slices.Index(arrivals, at)
	for k := i + 1; k < i+n && k < len(arrivals); k++ {
		all = append(all, (arrivals[k] - arrivals[k-1]).Round(100*time.Microsecond))
	}
	return all
}
