package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// twoWakes is what a hand-over by way of an agent cannot be quicker than: one
// process writes a byte to a second that slept, and that one to a third.
const twoWakes = "two bytes from process to process to process, after 1ms of rest"

// relay passes bytes on: what comes from descriptor 3 goes to 4, or, for the
// last of the three, the time at which it came.
func relay() error {
	in, err := net.FileConn(os.NewFile(3, "in"))
	if err != nil {
		return err
	}
	out, err := net.FileConn(os.NewFile(4, "out"))
	if err != nil {
		return err
	}
	last := os.Getenv(childArg) == "last"
	fmt.Println() // ready
	for word := make([]byte, 1); ; {
		if _, err := in.Read(word); err != nil {
			return nil // the first has ended
		}
		if last {
			_, err = fmt.Fprintln(out, monotonic())
		} else {
			_, err = out.Write(word)
		}
		if err != nil {
			return err
		}
	}
}

// wakes measures it, as often as there are rounds.
func wakes(book *book) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var ends [6]*os.File // three pairs of sockets: to the second, to the third, and back
	for i := 0; i < len(ends); i += 2 {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		for k, fd := range fds {
			ends[i+k] = os.NewFile(uintptr(fd), "pair")
			defer ends[i+k].Close()
		}
	}
	for k, which := range []string{"second", "last"} {
		p := &process{Cmd: exec.Command(self)}
		p.ExtraFiles = []*os.File{ends[2*k+1], ends[2*k+2]}
		if err := p.launch("relay", which, ""); err != nil {
			return err
		}
		defer p.kill()
	}
	first, err := net.FileConn(ends[0])
	if err != nil {
		return err
	}
	defer first.Close()
	back, err := net.FileConn(ends[5])
	if err != nil {
		return err
	}
	defer back.Close()
	s := Series{Part: "hand-over", Name: twoWakes, Unit: "ns"}
	lines := bufio.NewReader(back)
	for range book.rounds {
		var ways []int64
		for range 50 {
			time.Sleep(time.Millisecond)
			sent := monotonic()
			if _, err := first.Write([]byte{1}); err != nil {
				return err
			}
			line, err := lines.ReadString('\n')
			if err != nil {
				return err
			}
			came, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			if err != nil {
				return err
			}
			ways = append(ways, came-sent)
		}
		slices.Sort(ways)
		s.Values = append(s.Values, rounded(float64(ways[len(ways)/2])))
	}
	book.add(s)
	return nil
}
