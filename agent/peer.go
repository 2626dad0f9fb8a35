//go:build linux

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// soPeerPidfd is SO_PEERPIDFD, Linux 6.5.
const soPeerPidfd = 77

// peer is who is at the other end of a connection, as the kernel says it.
type peer struct {
	pid, uid int
	start    uint64 // clock ticks since boot
	pidfd    *os.File
}

// peerOf asks the kernel. The caller closes pidfd.
func peerOf(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{uid: -1}, err
	}
	var cred *unix.Ucred
	var credErr, pidErr error
	pidfd := -1
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		pidfd, pidErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, soPeerPidfd)
	})
	if err = errors.Join(err, credErr); err != nil {
		return peer{uid: -1}, fmt.Errorf("agent: who is the peer: %w", err)
	}
	p := peer{pid: int(cred.Pid), uid: int(cred.Uid)}
	if p.pid <= 0 {
		return p, errors.New("agent: the peer is in another pid namespace")
	}
	if pidErr != nil {
		// Before 6.5: the number may have been used again since connect; the
		// start time below is then another process's, and its end ends this
		// peer's permits too early at worst. The connection must still stand.
		if pidfd, err = unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK); err != nil {
			return p, fmt.Errorf("agent: pidfd of the peer: %w", err)
		}
		if closedByPeer(raw) {
			unix.Close(pidfd)
			return p, errors.New("agent: the peer has gone")
		}
	}
	p.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	if p.start, err = startTime(p.pid); err == nil && ended(p.pidfd) {
		err = errors.New("agent: the peer has gone")
	}
	if err != nil {
		p.pidfd.Close()
		return p, err
	}
	return p, nil
}

func closedByPeer(raw interface{ Control(func(uintptr)) error }) bool {
	hup := false
	raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, _ := unix.Poll(fds, 0)
		hup = n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR) != 0
	})
	return hup
}

// ended tells whether the process of a pidfd is gone.
func ended(pidfd *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}

// startTime reads when a process started, in clock ticks since boot.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("agent: start time of process %d: %w", pid, err)
	}
	start, ok := statStart(stat)
	if !ok {
		return 0, fmt.Errorf("agent: start time of process %d: short stat", pid)
	}
	return start, nil
}

// statStart is the start time in the text of /proc/PID/stat. The name, in
// brackets, may contain anything; the fields follow the last.
func statStart(stat []byte) (uint64, bool) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, false
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return start, err == nil
}

// living opens a process known from the ledger, if it still lives.
func living(id identity) (*os.File, bool) {
	fd, err := unix.PidfdOpen(id.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, false
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	start, err := startTime(id.pid)
	if err != nil || start != id.start || ended(f) {
		f.Close()
		return nil, false
	}
	return f, true
}

// watcher calls back once when a life pipe's other end is closed, or a
// process has ended. One goroutine for all of them.
type watcher struct {
	epoll int
	wake  [2]int

	mu  sync.Mutex
	fns map[int32]func()
	// An event that was fetched before its file was removed must not be taken
	// for that of a newer file with the same number: each has a serial number.
	ids  map[*os.File]int32
	last int32
}

// wakeID is the serial number of the watcher's own pipe.
const wakeID = 0

func newWatcher() (*watcher, error) {
	w := &watcher{fns: make(map[int32]func()), ids: make(map[*os.File]int32)}
	var err error
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("agent: epoll: %w", err)
	}
	if err = unix.Pipe2(w.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err == nil {
		err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, w.wake[0], &unix.EpollEvent{Fd: wakeID})
	}
	if err != nil {
		unix.Close(w.epoll)
		return nil, fmt.Errorf("agent: epoll: %w", err)
	}
	go w.run()
	return w, nil
}

// add watches f. A life pipe is watched for its hang-up alone: what a process
// writes into it means nothing.
func (w *watcher) add(f *os.File, pidfd bool, fn func()) error {
	events := uint32(0)
	if pidfd {
		events = unix.EPOLLIN
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.last%math.MaxInt32 + 1
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, int(f.Fd()), &unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: id}); err != nil {
		return fmt.Errorf("agent: watching a process: %w", err)
	}
	w.last, w.ids[f], w.fns[id] = id, id, fn
	return nil
}

// remove ends the watching, and closes f.
func (w *watcher) remove(f *os.File) {
	if f == nil {
		return
	}
	w.mu.Lock()
	if id, ok := w.ids[f]; ok {
		delete(w.ids, f)
		delete(w.fns, id)
		unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, int(f.Fd()), nil)
	}
	w.mu.Unlock()
	f.Close()
}

func (w *watcher) run() {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			if e.Fd == wakeID {
				unix.Close(w.epoll)
				unix.Close(w.wake[0])
				return
			}
			w.mu.Lock()
			fn := w.fns[e.Fd]
			w.mu.Unlock()
			if fn != nil {
				fn()
			}
		}
	}
}

// close ends the goroutine.
func (w *watcher) close() { unix.Close(w.wake[1]) }
