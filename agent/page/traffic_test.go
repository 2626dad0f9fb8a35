package page

import (
	"sync"
	"testing"
)

func TestTrafficCounts(t *testing.T) {
	for name, one := range map[string]struct {
		count func(c *Cell)
		want  Traffic
	}{
		"an older process":              {func(*Cell) {}, Traffic{}},
		"one attempt":                   {func(c *Cell) { c.Count(1, false) }, Traffic{Sent: 1, Attempts: 1}},
		"three attempts":                {func(c *Cell) { c.Count(3, false) }, Traffic{Sent: 1, Attempts: 3}},
		"refused":                       {func(c *Cell) { c.Count(0, false) }, Traffic{Unsent: 1}},
		"refused, and answered stale":   {func(c *Cell) { c.Count(0, true) }, Traffic{Unsent: 1, Fallback: 1}},
		"failed, and answered stale":    {func(c *Cell) { c.Count(2, true) }, Traffic{Sent: 1, Attempts: 2, Fallback: 1}},
		"attempts below zero are none":  {func(c *Cell) { c.Count(-5, false) }, Traffic{Unsent: 1}},
		"attempts overflow upwards":     {func(c *Cell) { c.sent.Store(1<<32 - 1); c.Count(1, false) }, Traffic{Sent: 2}},
		"calls overflow into nothing":   {func(c *Cell) { c.sent.Store(0xffffffff_00000000); c.Count(1, false) }, Traffic{Attempts: 1}},
		"a limit's own words are apart": {func(c *Cell) { c.Count(1, true); c.Open(7); c.Grant(7, 3) }, Traffic{Sent: 1, Attempts: 1, Fallback: 1}},
	} {
		var c Cell
		one.count(&c)
		if got := c.Traffic(); got != one.want {
			t.Errorf("%s: %+v, want %+v", name, got, one.want)
		}
	}
}

// No reader sees more fallback answers than calls, nor fewer attempts than
// calls that were sent.
func TestTrafficIsReadInOrder(t *testing.T) {
	var c Cell
	var wg sync.WaitGroup
	const callers, calls = 4, 20_000
	for range callers {
		wg.Go(func() {
			for i := range calls {
				c.Count(i%4, i%2 == 0)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		if r := c.Traffic(); uint64(r.Fallback) > uint64(r.Sent)+uint64(r.Unsent) || r.Attempts < r.Sent {
			t.Fatalf("read %+v", r)
		}
	}
	if got, want := c.Traffic(), (Traffic{Sent: callers * calls * 3 / 4, Attempts: callers * calls * 6 / 4, Unsent: callers * calls / 4, Fallback: callers * calls / 2}); got != want {
		t.Errorf("in the end %+v, want %+v", got, want)
	}
}
