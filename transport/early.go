package transport

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errOpened ends a wait between attempts: another call opened the circuit, and
// it will still be open when the wait is over.
var errOpened = errors.New("transport: the circuit opened during the wait")

// openings are the waits that the opening of a circuit may end early.
type openings struct {
	mu    sync.Mutex
	waits map[*pause]struct{}
}

// pause is one wait between attempts.
type pause struct {
	until time.Time
	end   context.CancelCauseFunc
}

// watch has opened look at a pause from now on.
func (o *openings) watch(p *pause) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waits == nil {
		o.waits = map[*pause]struct{}{}
	}
	o.waits[p] = struct{}{}
}

func (o *openings) forget(p *pause) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.waits, p)
}

// opened ends the pauses that would be over before a circuit that is open for
// the given time lets a probe through.
func (o *openings) opened(now time.Time, open time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for p := range o.waits {
		if p.until.Sub(now) < open {
			p.end(errOpened)
		}
	}
}
