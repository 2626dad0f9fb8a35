//go:build linux

package agent

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm is a timer that is late by some ten microseconds. The runtime's own are
// late by up to a millisecond in a program that has nothing else to do: its
// poller waits in whole milliseconds (runtime/netpoll_epoll.go). What a token
// is late of a bucket that holds no other is lost.
type alarm struct {
	file *os.File
	fd   int
	C    chan struct{} // has room for one
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("agent: timerfd: %w", err)
	}
	a := &alarm{file: os.NewFile(uintptr(fd), "timerfd"), fd: fd, C: make(chan struct{}, 1)}
	go a.run()
	return a, nil
}

// set has the alarm go off once, in d, and not when it was set to before; one
// that went off just now may still be in C. Not for use beside close.
func (a *alarm) set(d time.Duration) {
	// It fails only for what is no timer, or no time.
	unix.TimerfdSettime(a.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))}, nil)
}

// run ends with close.
func (a *alarm) run() {
	var times [8]byte
	for {
		if _, err := a.file.Read(times[:]); err != nil {
			return
		}
		select {
		case a.C <- struct{}{}:
		default:
		}
	}
}

func (a *alarm) close() { a.file.Close() }
