//go:build linux

package client

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// serve answers each connection at a socket of its own with its next script,
// and the last script from then on.
func serve(t *testing.T, scripts ...func(*net.UnixConn)) (socket string, accepted *atomic.Int32) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	accepted = new(atomic.Int32)
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			script := scripts[min(int(accepted.Add(1)), len(scripts))-1]
			wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				script(c)
			})
		}
	})
	t.Cleanup(func() { stop(); l.Close(); wg.Wait() })
	return socket, accepted
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after 20 s: not yet %s", what)
		}
	}
}

// upgraded answers the request for a session with 101, as ledger's agent.
func upgraded(c *net.UnixConn, ledger string) bool {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil || r.Header.Get("Upgrade") != wire.Upgrade {
		return false
	}
	_, err = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+wire.Upgrade+"\r\n"+wire.LedgerHeader+": "+ledger+"\r\n\r\n")
	return err == nil
}

// hold keeps a connection until the other side ends it.
func hold(c *net.UnixConn) { io.Copy(io.Discard, c) }

func session(t *testing.T, socket string) *Session {
	s := &Session{Socket: socket}
	t.Cleanup(func() {
		s.Close()
		until(t, "the session's goroutine ended", func() bool { return !s.running.Load() })
	})
	return s
}

// works checks that limits are the process's own, and work.
func works(t *testing.T, s *Session) {
	t.Helper()
	l := s.Limits("a", resolved(t, bulkhead(1, 1, time.Millisecond)))
	p, err := l.Acquire(t.Context())
	if err != nil {
		t.Fatalf("a first permit: %v; want the process's own", err)
	}
	if _, err := l.Acquire(t.Context()); err == nil {
		t.Error("a second permit of one was given")
	}
	p.Release()
}

func descriptors(t *testing.T) []os.DirEntry {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// friend is an agent that welcomes. What it does with the hello is the test's.
func friend(t *testing.T, ledger string, heard func(c *net.UnixConn, hello *wire.Message, files []*os.File) []wire.Cell) func(*net.UnixConn) {
	control, file, err := page.NewControl()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close(); runtime.KeepAlive(control) })
	return func(c *net.UnixConn) {
		if !upgraded(c, ledger) {
			return
		}
		m, files, _, err := wire.ReceiveFiles(c, wire.MaxLine, 2)
		if err != nil {
			return
		}
		cells := heard(c, m, files)
		if cells == nil {
			return
		}
		wire.SendFiles(c, &wire.Message{Type: wire.Welcome, Version: 1, Cells: cells}, file)
		conn := wire.NewConn(c, nil, wire.MaxLine, 1<<20)
		conn.Send(&wire.Message{Type: wire.Policies, Generation: 1, Set: &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"a": bulkhead(3, 3, time.Second)}}})
		hold(c)
	}
}

// gone reports whether nobody holds the other end of a pipe.
func gone(f *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&unix.POLLHUP != 0
}
