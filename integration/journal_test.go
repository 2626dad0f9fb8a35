//go:build linux

package integration

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// journal is an upstream that remembers each call, and fails while it is dead.
type journal struct {
	server *httptest.Server
	dead   atomic.Bool

	mu    sync.Mutex
	calls []call // in the order in which they ended
}

// call is one of them, its times on the monotonic clock.
type call struct {
	worker     string
	sent       time.Duration // by the worker; 0: it does not say
	came, left time.Duration
	ok         bool
}

func newJournal(t *testing.T) *journal {
	j := new(journal)
	j.server = httptest.NewServer(j)
	t.Cleanup(j.server.Close)
	return j
}

// ServeHTTP takes a few milliseconds, so that some calls are in flight.
func (j *journal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := call{worker: r.Header.Get(workerHeader), came: monotonic()}
	if sent, err := strconv.ParseInt(r.Header.Get(sentHeader), 10, 64); err == nil {
		c.sent = time.Duration(sent)
	}
	timer := time.NewTimer(3 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
	c.ok = !j.dead.Load()
	c.left = monotonic()
	j.mu.Lock()
	j.calls = append(j.calls, c)
	j.mu.Unlock()
	if !c.ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// since gives the calls that came from then on, in the order of their ends.
func (j *journal) since(at time.Duration) (all []call) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.calls {
		if c.came >= at {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b call) int { return int(a.left - b.left) })
	return all
}

// evident is when the failures since the upstream's death were evidence enough,
// by the rule on runs: each worker's part counts up to the median of all, and
// half of them fail.
func evident(calls []call, died time.Duration) time.Duration {
	runs := map[string]int{}
	for _, c := range calls {
		if c.came < died-time.Second || c.ok {
			runs[c.worker] = 0
			continue
		}
		runs[c.worker]++
		var sorted []int
		failing, sum := 0, 0
		for _, n := range runs {
			sorted = append(sorted, n)
			failing += min(n, 1)
		}
		slices.Sort(sorted)
		for _, n := range runs {
			sum += min(n, sorted[(len(sorted)-1)/2])
		}
		if sum >= consecutive && 2*failing >= len(runs) && failing >= 2 {
			return c.left
		}
	}
	return 0
}

// lastBegun is when the last call was sent that was sent before a time; from,
// where none was.
func lastBegun(calls []call, from, before time.Duration) time.Duration {
	for _, c := range calls {
		if c.sent < before {
			from = max(from, c.sent)
		}
	}
	return from
}

// together is how many calls were there at a time, most.
func together(calls []call, from, until time.Duration) (most int) {
	for _, one := range calls {
		if one.came < from || one.came > until {
			continue
		}
		n := 0
		for _, c := range calls {
			if c.came <= one.came && c.left > one.came {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// answered is from when on, since a time, a second began in which 99 % of the
// workers' calls were answered; 0: not yet.
func (j *journal) answered(since, now time.Duration, all []*worker) time.Duration {
	calls := j.since(since)
	var refused []time.Duration
	for _, w := range all {
		refused = append(refused, w.failedSince(since)...)
	}
	for at := since; at+time.Second < now; at += 10 * time.Millisecond {
		good, bad := 0, 0
		for _, c := range calls {
			if c.came >= at && c.came < at+time.Second {
				if c.ok {
					good++
				} else {
					bad++
				}
			}
		}
		for _, f := range refused {
			if f >= at && f < at+time.Second {
				bad++
			}
		}
		if good > 0 && 99*bad <= good {
			return at
		}
	}
	return 0
}

// failedSince is when the worker's calls were not answered, since a time.
func (w *worker) failedSince(at time.Duration) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, _ := slices.BinarySearch(w.failedAt, at)
	return slices.Clone(w.failedAt[i:])
}
