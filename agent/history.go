//go:build linux

package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// What limits were asked for in the last minutes is kept second by second, so
// that a change can be judged before it is made (resagent check
// --against-live). In fixed memory, and only of limits that are used.

const (
	// historySeconds are kept of each limit.
	historySeconds = 300
	// maxSeries bounds the limits of which they are kept: 5 MiB in all.
	maxSeries = 1024
	// readEvery is how often a limit in use is looked at, and readIdleEvery one
	// that nobody used in the last seconds. The looks of the allocator count
	// too: while anyone waits there is one every 2 ms.
	readEvery     = 100 * time.Millisecond
	readIdleEvery = time.Second
	inUseFor      = 5 * time.Second
	// readShare keeps the looks to 1/1000 of a processor: on a host where one
	// round takes long the next comes later.
	readShare = 1000
)

// second is what was seen of a limit in one second.
type second struct {
	inUse, waiting uint32 // the most at once
	taken          uint32 // tokens used up
	samples        uint32 // 0: nobody looked, or nothing was used
}

// series is the history of one limit, in a ring. The zero value is ready.
type series struct {
	ring   [historySeconds]second
	newest int64         // second since boot that was written last
	used   time.Duration // when the limit was last seen in use
}

// reading is a limit at one moment.
type reading struct {
	inUse   int // permits; of a budget the tokens that are gone from it
	waiting int // callers, or the tokens they wait for
	taken   int // of a rate: tokens used up since the reading before
}

func (r reading) idle() bool { return r == reading{} }

// add takes in a reading.
func (s *series) add(r reading, now time.Duration) {
	at := int64(now / time.Second)
	for s.newest < at {
		s.newest = max(s.newest+1, at-historySeconds+1)
		s.ring[s.newest%historySeconds] = second{}
	}
	one := &s.ring[s.newest%historySeconds]
	one.inUse = max(one.inUse, uint32(r.inUse))
	one.waiting = max(one.waiting, uint32(r.waiting))
	one.taken += uint32(r.taken)
	one.samples++
	if !r.idle() {
		s.used = now
	}
}

// last gives the n seconds up to now, the oldest first.
func (s *series) last(n int, now time.Duration) []second {
	out := make([]second, n)
	for i := range out {
		at := int64(now/time.Second) - int64(n-1-i)
		if at > s.newest-historySeconds && at <= s.newest && at >= 0 {
			out[i] = s.ring[at%historySeconds]
		}
	}
	return out
}

// observe makes a reading of what was just read of a limit's cells, and adds it
// to the limit's history where there is one.
func (a *allocator) observe(l *limit, views []view, now time.Duration) (r reading) {
	total := l.consumed
	for i, v := range views {
		h := l.holders[i]
		if h.process.dead {
			continue // what it has is not used any more
		}
		r.waiting += v.waiting + v.due
		switch l.kind {
		case wire.Bulkhead:
			r.inUse += v.inUse + v.extra
		case wire.RateLimit:
			total += uint64(max(0, v.granted-v.available-v.inUse)) // not counted as spent yet
		case wire.RetryBudget:
			r.inUse -= v.available
			if c := h.cellOf(); c != nil {
				r.inUse -= int(min(c.Deposits()-h.deposits, uint64(l.capacity))) // not taken in yet
			}
		}
	}
	switch {
	case l.kind == wire.RetryBudget:
		r.inUse = max(0, r.inUse+l.capacity-a.ledger.level(l.slot))
	case l.kind == wire.RateLimit && total > l.counted:
		r.taken, l.counted = int(min(total-l.counted, policies.MaxLimit)), total
	}
	l.sampleAt = now + readIdleEvery
	if l.series != nil {
		l.series.add(r, now)
		if now-l.series.used < inUseFor {
			l.sampleAt = now + readEvery
		}
	}
	return r
}

// record looks at the limits that are used, until ctx ends.
func (a *Agent) record(ctx context.Context) {
	timer := time.NewTimer(readEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begin := time.Now()
		timer.Reset(max(a.sample(), time.Since(begin)*readShare))
	}
}

// sample looks at each limit whose time has come, and says when to come again.
func (a *Agent) sample() time.Duration {
	a.mu.Lock()
	due := a.sampled[:0]
	now := a.now()
	next := now + readIdleEvery
	for _, l := range a.alloc.limits {
		if l.sampleAt <= now {
			due = append(due, l)
		} else {
			next = min(next, l.sampleAt)
		}
	}
	a.sampled = due
	a.mu.Unlock()
	for i, l := range due {
		due[i] = nil
		a.mu.Lock() // of each by itself: nobody waits for all of them
		if a.alloc.limits[limitKey{l.name, l.kind}] == l {
			a.keep(l, a.now())
		}
		next = min(next, max(l.sampleAt, now))
		a.mu.Unlock()
	}
	return max(readEvery/2, next-a.now())
}

// keep reads a limit for its history. One that was never used has none. With
// the lock.
func (a *Agent) keep(l *limit, now time.Duration) {
	views := slices.Grow(a.views[:0], len(l.holders))[:len(l.holders)]
	a.views = views
	a.alloc.readInto(views, l, now) // which adds to the history that there is
	if l.series != nil {
		return
	}
	if r := a.alloc.observe(l, views, now); !r.idle() {
		if l.series = a.seriesOf(limitKey{l.name, l.kind}, now); l.series != nil {
			l.series.add(r, now)
		}
	}
}

// seriesOf finds or makes the history of a limit. Where there is no room, those
// that have nothing to tell go; nil if there are none.
func (a *Agent) seriesOf(key limitKey, now time.Duration) *series {
	if s := a.history[key]; s != nil {
		return s // of a limit that was taken away by a reload and came back
	}
	if a.history == nil {
		a.history = make(map[limitKey]*series)
	}
	if len(a.history) >= maxSeries {
		for k, old := range a.history {
			if now-old.used > historySeconds*time.Second {
				if l := a.alloc.limits[k]; l != nil {
					l.series = nil
				}
				delete(a.history, k)
			}
		}
	}
	if len(a.history) >= maxSeries {
		return nil
	}
	s := new(series)
	a.history[key] = s
	return s
}

// History is what /v1/history says.
type History struct {
	// Seconds that are told, the last one still under way: at most 300, and not
	// more than the agent runs.
	Seconds int `json:"seconds"`
	// Limits that were used in that time, at most 1024.
	Limits []LimitHistory `json:"limits"`
}

// LimitHistory is one limit of the host, second by second, the oldest first.
type LimitHistory struct {
	Upstream string    `json:"upstream"`
	Kind     wire.Kind `json:"kind"`
	// InUse is the most that was seen in use at once; of a retry budget, the
	// tokens that were gone from it.
	InUse []int `json:"in_use"`
	// Waiting is the most callers that were seen waiting, or tokens waited for.
	Waiting []int `json:"waiting"`
	// Taken are tokens of a rate that were used up.
	Taken []int `json:"taken"`
	// Samples is how often the limit was looked at.
	Samples []int `json:"samples"`
}

// historyAsked is GET /v1/history. It is not indented: a line for each number
// helps nobody, and there may be a million.
func (a *Agent) historyAsked(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a.History())
}

// History gives the last minutes of all limits that were used.
func (a *Agent) History() History {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	// Those of the clock: an agent that has run for less than one may have seen
	// the end of the one before.
	began := now - time.Since(a.started)
	h := History{Seconds: int(min(historySeconds, now/time.Second-began/time.Second+1)), Limits: []LimitHistory{}}
	for key, s := range a.history {
		if now-s.used > historySeconds*time.Second {
			continue
		}
		one := LimitHistory{Upstream: key.name, Kind: key.kind}
		for _, sec := range s.last(h.Seconds, now) {
			one.InUse = append(one.InUse, int(sec.inUse))
			one.Waiting = append(one.Waiting, int(sec.waiting))
			one.Taken = append(one.Taken, int(sec.taken))
			one.Samples = append(one.Samples, int(sec.samples))
		}
		h.Limits = append(h.Limits, one)
	}
	slices.SortFunc(h.Limits, func(x, y LimitHistory) int {
		return cmp.Or(cmp.Compare(x.Upstream, y.Upstream), cmp.Compare(x.Kind, y.Kind))
	})
	return h
}
