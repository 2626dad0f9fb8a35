//go:build linux

package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// workerHeader tells the upstream which worker asks.
	workerHeader = "Worker"
	// sentHeader tells it when the call was sent.
	sentHeader = "Sent"
)

// The paths of an upstream.
const (
	pathWork = "/work" // stays 1 to 20 ms
	pathHold = "/hold" // stays until release
	pathNow  = "/now"  // answers at once
	pathFail = "/fail" // answers 503 at once
	pathSick = "/sick" // answers 503 at once while the upstream is sick
)

// upstream is a real HTTP server that counts what it is asked. A call is in
// flight from the handler's begin to its end or the end of the request's
// context, whichever is first; what goes on after that is abandoned.
type upstream struct {
	t      *testing.T
	server *httptest.Server
	opened time.Duration

	sick atomic.Bool

	mu        sync.Mutex
	random    *rand.Rand
	visits    map[*visit]bool // in flight
	limit     int             // more in flight is an excess; 0: none
	excesses  []string
	most      int
	abandoned int // calls given up before they were answered
	arrivals  []time.Duration
	travel    time.Duration // the longest from sent to arrived
	byWorker  map[string]int
	area      time.Duration // calls in flight, added up over time
	changed   time.Duration // when area was right
	gate      chan struct{} // closed: calls that hold may go
}

// visit is one call in flight.
type visit struct {
	worker string
	since  time.Duration
}

func newUpstream(t *testing.T, random *rand.Rand) *upstream {
	random = rand.New(rand.NewPCG(random.Uint64(), 0))
	u := &upstream{t: t, random: random, opened: monotonic(), visits: make(map[*visit]bool),
		byWorker: make(map[string]int), gate: make(chan struct{})}
	u.server = httptest.NewServer(u)
	t.Cleanup(func() {
		u.release()
		u.server.Close()
		for _, e := range u.excesses[:min(len(u.excesses), 3)] {
			t.Errorf("more in flight than the limit allows: %s", e)
		}
	})
	return u
}

// host is the upstream's name and port, as a policy matches it.
func (u *upstream) host() string { return strings.TrimPrefix(u.server.URL, "http://") }

func (u *upstream) now() time.Duration { return monotonic() - u.opened }

// ServeHTTP is one call.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, stay := u.enter(r)
	select {
	case <-stay:
		u.leave(v, false)
	case <-r.Context().Done():
		u.leave(v, true)
		return
	}
	// The call has left the count before its answer leaves this process.
	if r.URL.Path == pathFail || r.URL.Path == pathSick && u.sick.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, "ok")
}

func (u *upstream) enter(r *http.Request) (*visit, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.tally()
	v := &visit{worker: r.Header.Get(workerHeader), since: now}
	u.visits[v] = true
	u.arrivals = append(u.arrivals, now)
	u.byWorker[v.worker]++
	if sent, err := strconv.ParseInt(r.Header.Get(sentHeader), 10, 64); err == nil {
		u.travel = max(u.travel, now+u.opened-time.Duration(sent))
	}
	u.most = max(u.most, len(u.visits))
	if u.limit > 0 && len(u.visits) > u.limit {
		u.excesses = append(u.excesses, u.describe(now))
	}
	switch r.URL.Path {
	case pathHold:
		return v, u.gate
	case pathWork:
		done := make(chan struct{})
		time.AfterFunc(time.Millisecond+time.Duration(u.random.Int64N(int64(19*time.Millisecond))), func() { close(done) })
		return v, done
	}
	done := make(chan struct{})
	close(done)
	return v, done
}

func (u *upstream) leave(v *visit, abandoned bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tally()
	delete(u.visits, v)
	if abandoned {
		u.abandoned++
	}
}

// tally brings the area up to now. With the lock.
func (u *upstream) tally() time.Duration {
	now := u.now()
	u.area += time.Duration(len(u.visits)) * (now - u.changed)
	u.changed = now
	return now
}

// describe lists what is in flight. With the lock.
func (u *upstream) describe(now time.Duration) string {
	var parts []string
	for v := range u.visits {
		parts = append(parts, fmt.Sprintf("worker %s for %v", v.worker, now-v.since))
	}
	slices.Sort(parts)
	return fmt.Sprintf("%d in flight at %v, limit %d: %s", len(parts), now, u.limit, strings.Join(parts, ", "))
}

// allow sets the limit from now on, and forgets what was most before.
func (u *upstream) allow(limit int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.limit, u.most = limit, len(u.visits)
}

// release lets the calls at pathHold go, those in flight and those to come.
func (u *upstream) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	select {
	case <-u.gate:
	default:
		close(u.gate)
	}
}

// hold makes calls at pathHold stay again.
func (u *upstream) hold() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gate = make(chan struct{})
}

// count is a reading of the counters.
type count struct {
	at              time.Duration
	calls, inFlight int
	most, abandoned int
	area            time.Duration
	excesses        int
}

func (u *upstream) count() count {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.tally()
	return count{at: now, calls: len(u.arrivals), inFlight: len(u.visits), most: u.most,
		abandoned: u.abandoned, area: u.area, excesses: len(u.excesses)}
}

// began tells how many calls are in flight that began before a time.
func (u *upstream) began(before time.Duration) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for v := range u.visits {
		if v.since < before {
			n++
		}
	}
	return n
}

// times is when calls came, in order, and the longest that one was on its way.
func (u *upstream) times() (arrivals []time.Duration, travel time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.arrivals), u.travel
}

// perWorker is how many calls came from each worker.
func (u *upstream) perWorker() map[string]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.byWorker)
}

// inFlight waits until exactly n calls are in flight.
func (u *upstream) inFlight(n int) {
	u.t.Helper()
	eventually(u.t, fmt.Sprintf("%d calls in flight (now %d)", n, u.count().inFlight), func() bool { return u.count().inFlight == n })
}

// further waits until n more calls have come.
func (u *upstream) further(n int) {
	u.t.Helper()
	from := u.count().calls
	eventually(u.t, fmt.Sprintf("%d more calls", n), func() bool { return u.count().calls >= from+n })
}

// use is the part of the limit that was in flight between two readings.
func (c count) use(before count, limit int) float64 {
	return float64(c.area-before.area) / float64(c.at-before.at) / float64(limit)
}
