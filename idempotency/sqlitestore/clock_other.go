//go:build !linux

package sqlitestore

import "time"

// readClock has only the wall clock here: leases and TTLs jump with it.
func readClock() (clock, error) {
	now := time.Now().UnixNano()
	return clock{steady: now, wall: now}, nil
}
