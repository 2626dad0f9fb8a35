package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstSocket is the first descriptor that systemd passes, sd_listen_fds(3).
const firstSocket = 3

// activated gives the sockets that systemd opened for us, nil for those that
// it did not, and takes them out of the environment, so that no child of ours
// mistakes them for its own.
func activated() (agent, admin *net.UnixListener, err error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) || count == "" {
		return nil, nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, nil, fmt.Errorf("cannot take the sockets of systemd: LISTEN_FDS is %q, which is no number", count)
	}
	named := strings.Split(names, ":")
	for i := range n {
		unix.CloseOnExec(firstSocket + i)
	}
	for i := range n {
		name := ""
		if i < len(named) {
			name = named[i]
		}
		l, err := listenerOf(firstSocket+i, name)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case name == "agent" && agent == nil:
			agent = l
		case name == "admin" && admin == nil:
			admin = l
		default:
			return nil, nil, fmt.Errorf("cannot take the socket %q of systemd: one each is wanted with FileDescriptorName=agent and =admin; see systemctl cat resagent.socket", name)
		}
	}
	return agent, admin, nil
}

// listenerOf makes a listener of an inherited descriptor.
func listenerOf(fd int, name string) (*net.UnixListener, error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // the listener has its own copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot take the socket %q of systemd: %w", name, err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("cannot take the socket %q of systemd: it is a %s socket and not a Unix stream socket; see ListenStream= in its unit", name, l.Addr().Network())
	}
	return u, nil
}
