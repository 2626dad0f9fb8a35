//go:build linux

package main

import (
	"testing"
	"time"
)

// The simulated host keeps its limit and uses it: what the tables say rests on
// both.
func TestHost(t *testing.T) {
	o, err := simulate(setup{processes: 8, limit: 10, callers: 4, service: 10 * time.Millisecond, start: time.Millisecond},
		costs{message: 5 * time.Microsecond, delay: 20 * time.Microsecond}, 2*time.Second, 1)
	if err != nil {
		t.Fatal(err)
	}
	if o.used > 1.1 {
		t.Errorf("%.2f of the limit is used, want at most all of it", o.used)
	}
	if o.used < 0.9 || o.starved > 0 {
		t.Errorf("%.2f of the limit is used and %d processes had no call, want nearly all and none", o.used, o.starved)
	}
}

// A shared budget and circuit keep a dead upstream's hosts from calling it.
func TestFleet(t *testing.T) {
	f := outage(100, 10, time.Minute, 1)
	if f.sent >= f.calls/10 {
		t.Errorf("%d attempts for %d calls of a dead upstream, want less than a tenth", f.sent, f.calls)
	}
	if f.half == 0 || f.all == 0 {
		t.Errorf("the traffic is not back: half after %v, all after %v", f.half, f.all)
	}
}
