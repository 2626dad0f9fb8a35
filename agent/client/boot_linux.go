package client

import (
	"time"

	"golang.org/x/sys/unix"
)

// booted is the time since boot at epoch.
var booted = func() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano()) - time.Since(epoch)
}()

// SinceBoot is the time t on the clock that all processes of the host share:
// that of the words in the control page. Without a system call.
func SinceBoot(t time.Time) time.Duration { return booted + t.Sub(epoch) }
