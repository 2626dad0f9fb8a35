//go:build linux

package agent

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/resagent/resagent/agent/wire"
)

// A ring of 300 seconds says what a list of all readings says of them, however
// far apart these are.
func TestSeriesKeepsTheLastSeconds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s series
		all := map[int64]second{}
		now := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "start"))
		begin := now
		for range rapid.IntRange(0, 60).Draw(t, "readings") {
			now += rapid.SampledFrom([]time.Duration{0, 2 * time.Millisecond, 300 * time.Millisecond, time.Second, 70 * time.Second, 299 * time.Second, 400 * time.Second, 599 * time.Second}).Draw(t, "after")
			r := reading{rapid.IntRange(0, 9).Draw(t, "in use"), rapid.IntRange(0, 3).Draw(t, "waiting"), rapid.IntRange(0, 5).Draw(t, "taken")}
			s.add(r, now)
			one := all[int64(now/time.Second)]
			one.inUse, one.waiting = max(one.inUse, uint32(r.inUse)), max(one.waiting, uint32(r.waiting))
			one.taken += uint32(r.taken)
			one.samples++
			all[int64(now/time.Second)] = one
		}
		now += rapid.SampledFrom([]time.Duration{0, 5 * time.Second, 299 * time.Second, 300 * time.Second, time.Hour}).Draw(t, "asked after")
		n := rapid.OneOf(rapid.Just(historySeconds), rapid.IntRange(1, historySeconds)).Draw(t, "seconds")
		got := s.last(n, now)
		for i, one := range got {
			at := int64(now/time.Second) - int64(n-1-i)
			if want := all[at]; one != want {
				t.Fatalf("second %d of %d, %d after the first: %+v, want %+v", i, n, at-int64(begin/time.Second), one, want)
			}
		}
	})
}

// Of more limits than there is room for the first are kept, until they have
// nothing to tell.
func TestHistoryIsBounded(t *testing.T) {
	a := &Agent{alloc: &allocator{limits: make(map[limitKey]*limit)}}
	key := func(i int) limitKey { return limitKey{name: fmt.Sprint(i), kind: wire.Bulkhead} }
	for i := range maxSeries {
		s := a.seriesOf(key(i), 0)
		if s == nil {
			t.Fatalf("no room for %d of %d", i, maxSeries)
		}
		s.used = time.Duration(i) * time.Second
	}
	if a.seriesOf(key(maxSeries), 5*time.Minute) != nil {
		t.Error("there is room for more than the bound")
	}
	if a.seriesOf(key(3), 5*time.Minute) == nil {
		t.Error("one that is kept is not found")
	}
	gone := &limit{series: a.history[key(3)]}
	a.alloc.limits[key(3)] = gone
	if a.seriesOf(key(maxSeries), 10*time.Minute) == nil || len(a.history) != maxSeries-300+1 {
		t.Errorf("%d are kept after ten minutes, want those of the last five and the new one", len(a.history))
	}
	if gone.series != nil {
		t.Error("a limit goes on writing into a history that was dropped")
	}
}
