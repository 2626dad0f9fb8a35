package transport

import (
	"sync"
	"time"
)

// throttle is a breaker that refuses a part of the calls, the more the more of
// them fail. It counts a call when it ends, as all breakers here do: counted at
// its beginning, the first calls of a busy process would look like failures for
// as long as they take. A refused call counts at once, so that a higher demand
// on an upstream that accepts no more is refused more.
// Source: Beyer et al., "Site Reliability Engineering", chapter 21, client-side
// throttling.
type throttle struct {
	multiplier float64
	part       time.Duration // a tenth of the window

	mu       sync.Mutex // guards what follows
	parts    [10]throttled
	newest   int64 // the number of the newest part
	requests uint64
	accepts  uint64
}

// throttled are the counts of one part of the window.
type throttled struct{ requests, accepts uint64 }

// refuses says whether a call is to be refused, random being even over [0, 1),
// and counts it if so.
func (t *throttle) refuses(now time.Duration, random float64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	n := float64(t.requests)
	if random >= (n-t.multiplier*float64(t.accepts))/(n+1) {
		return false
	}
	t.count(0)
	return true
}

// ended counts a call that was let through.
func (t *throttle) ended(now time.Duration, accepted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	if accepted {
		t.count(1)
	} else {
		t.count(0)
	}
}

func (t *throttle) count(accepts uint64) {
	p := &t.parts[t.newest%10]
	p.requests++
	p.accepts += accepts
	t.requests++
	t.accepts += accepts
}

// forget takes out the parts of the window that are over.
func (t *throttle) forget(now time.Duration) {
	n := int64(now / max(1, t.part))
	for i := max(t.newest+1, n-9); i <= n; i++ {
		p := &t.parts[i%10]
		t.requests -= p.requests
		t.accepts -= p.accepts
		*p = throttled{}
	}
	t.newest = max(t.newest, n)
}
