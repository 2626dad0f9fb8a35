package sqlitestore

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// readClock reads both clocks. The steady one goes on evenly, whatever
// happens to the wall clock, and is the same for all processes of a boot.
func readClock() (clock, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return clock{}, err
	}
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return clock{}, err
	}
	return clock{boot: strings.TrimSpace(string(boot)), steady: t.Nano(), wall: time.Now().UnixNano()}, nil
}
