//go:build linux

package agent

import (
	"slices"
	"testing"
	"time"
)

// An alarm goes off at its time and not before, once, and when it was last set
// to, sooner or later. How late it is says the log: how busy the machine is
// decides that too.
func TestAlarm(t *testing.T) {
	a, err := newAlarm()
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	const d = 1500 * time.Microsecond
	var late []time.Duration
	for range 50 {
		a.set(time.Hour)
		began := time.Now()
		a.set(d)
		<-a.C
		took := time.Since(began)
		if took < d {
			t.Fatalf("set to %v, and off after %v", d, took)
		}
		late = append(late, took-d)
	}
	slices.Sort(late)
	t.Logf("late by %v at best, %v in the middle, %v at worst", late[0], late[25], late[49])
	a.set(time.Hour)
	select {
	case <-a.C:
		t.Error("it went off twice")
	case <-time.After(d):
	}
}
