//go:build linux

package client

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

func TestNoAgentCostsNothing(t *testing.T) {
	s := session(t, filepath.Join(t.TempDir(), "nothing"))
	before := runtime.NumGoroutine()
	began := time.Now()
	for range 1000 {
		s.Attach(t.Context())
	}
	if took := time.Since(began); took > firstWait {
		t.Errorf("1000 Attach without an agent took %v", took)
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines, %d before", now, before)
	}
	if s.Mode() != Alone || s.Policies() != nil {
		t.Errorf("mode %s with policies %v, want alone and none", s.Mode(), s.Policies())
	}
	works(t, s)
	if n := testing.AllocsPerRun(100, func() { s.Attach(t.Context()) }); n != 0 {
		t.Errorf("Attach allocates %v times with nobody there", n)
	}
}

// Who is at the socket and is no agent, or will not have us, is as if there
// were none: said once for each attempt, and nothing else.
func TestNoSession(t *testing.T) {
	answer := func(text string) func(*net.UnixConn) {
		return func(c *net.UnixConn) { io.WriteString(c, text); hold(c) }
	}
	refuse := func(then func(c *net.UnixConn)) func(*net.UnixConn) {
		return func(c *net.UnixConn) {
			if !upgraded(c, "l") {
				return
			}
			_, files, _, err := wire.ReceiveFiles(c, wire.MaxLine, 2)
			for _, f := range files {
				f.Close()
			}
			if err == nil {
				then(c)
			}
		}
	}
	for name, one := range map[string]struct {
		script func(*net.UnixConn)
		want   string
	}{
		"not found": {answer("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!"), "404 Not Found: no!"},
		"no HTTP":   {answer("220 mail.example.com ESMTP\r\n"), "asking for a session"},
		"binary":    {answer("\x00\x01\x02\x03\n\n\n\n"), "asking for a session"},
		"closes":    {func(*net.UnixConn) {}, "asking for a session"},
		"too many":  {answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), "503"},
		"too many, as we say it": {answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 50\r\n\r\n" +
			`{"title":"no session","detail":"256 sessions yet"}`), "503 Service Unavailable: no session: 256 sessions yet"},
		"speaks first":     {answer("HTTP/1.1 101 Switching Protocols\r\n\r\n{\"type\":\"welcome\"}\n"), "before the hello"},
		"closes after 101": {func(c *net.UnixConn) { upgraded(c, "l") }, "wire: "},
		"refuses the hello": {refuse(func(c *net.UnixConn) {
			wire.SendFiles(c, &wire.Message{Type: wire.Refuse, Reason: "the ledger is full"})
		}), "the ledger is full"},
		"welcomes without a page": {refuse(func(c *net.UnixConn) {
			wire.SendFiles(c, &wire.Message{Type: wire.Welcome, Version: 1})
		}), "no control page"},
		"welcomes with a pipe": {refuse(func(c *net.UnixConn) {
			r, w, _ := os.Pipe()
			defer r.Close()
			defer w.Close()
			wire.SendFiles(c, &wire.Message{Type: wire.Welcome, Version: 1}, r)
		}), "not a memory file"},
		"answers the hello with garbage": {refuse(func(c *net.UnixConn) { io.WriteString(c, "what?\n"); hold(c) }), "first message"},
	} {
		t.Run(name, func(t *testing.T) {
			socket, accepted := serve(t, one.script)
			var log bytes.Buffer
			s := session(t, socket)
			s.Logger = slog.New(slog.NewTextHandler(&log, nil))
			s.Limits("early", resolved(t, bulkhead(1, 1, time.Millisecond)))
			before := len(descriptors(t))
			s.Attach(t.Context())
			until(t, "given up", func() bool { return !s.running.Load() })
			works(t, s)
			for range 10 {
				s.Attach(t.Context())
			}
			if s.Mode() != Alone || accepted.Load() != 1 {
				t.Errorf("mode %s after %d attempts, want alone after one", s.Mode(), accepted.Load())
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, one.want) {
				t.Errorf("the log says %q, want one line with %q", got, one.want)
			}
			if err := s.Err(); err == nil || !strings.Contains(err.Error(), one.want) {
				t.Errorf("Err is %v, want one with %q", err, one.want)
			}
			until(t, "closed on both sides", func() bool { return len(descriptors(t)) <= before })
		})
	}
}

// Who accepts and never answers costs the first requests 250 ms, all of them
// together, and those that follow nothing.
func TestSilentSocketDelaysOnce(t *testing.T) {
	for name, script := range map[string]func(*net.UnixConn){
		"silent":           hold,
		"silent after 101": func(c *net.UnixConn) { upgraded(c, "l"); hold(c) },
	} {
		t.Run(name, func(t *testing.T) {
			socket, _ := serve(t, script)
			s := session(t, socket)
			began := time.Now()
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { s.Attach(t.Context()) })
			}
			wg.Wait()
			if took := time.Since(began); took < firstWait || took > 4*firstWait {
				t.Errorf("the first requests waited %v, want %v", took, firstWait)
			}
			began = time.Now()
			for range 20 {
				s.Attach(t.Context())
			}
			if took := time.Since(began); took > firstWait {
				t.Errorf("20 later requests waited %v, want none to", took)
			}
			works(t, s)
		})
	}
}

func TestFirstWaitKeepsToTheCallersDeadline(t *testing.T) {
	socket, _ := serve(t, hold)
	s := session(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	began := time.Now()
	s.Attach(ctx)
	if took := time.Since(began); took >= firstWait {
		t.Errorf("waited %v with 5 ms to go", took)
	}
}

// A hello that comes to nothing says nothing about the process: the pipe that
// the agent has from the one before goes on until Close.
func TestLifePipeLivesUntilClose(t *testing.T) {
	var mu sync.Mutex
	var pipes []*os.File
	var inodes []uint64
	keep := func(files []*os.File) {
		mu.Lock()
		defer mu.Unlock()
		p, err := page.Map(files[0])
		if err != nil {
			t.Errorf("the hello's page: %v", err)
			return
		}
		inodes = append(inodes, p.Inode())
		p.Close()
		files[0].Close()
		pipes = append(pipes, files[1])
	}
	lost := make(chan struct{})
	cells := []wire.Cell{}
	socket, accepted := serve(t,
		friend(t, "l", func(c *net.UnixConn, _ *wire.Message, files []*os.File) []wire.Cell {
			keep(files)
			go func() { <-lost; c.Close() }()
			return cells
		}),
		friend(t, "l", func(_ *net.UnixConn, _ *wire.Message, files []*os.File) []wire.Cell { keep(files); return nil }),
		func(c *net.UnixConn) { upgraded(c, "l") },
		func(*net.UnixConn) {},
		friend(t, "l", func(_ *net.UnixConn, _ *wire.Message, files []*os.File) []wire.Cell { keep(files); return cells }),
	)
	s := session(t, socket)
	s.Attach(t.Context())
	if s.Mode() != Attached {
		t.Fatalf("mode %s, want attached", s.Mode())
	}
	close(lost)
	until(t, "attached for the second time", func() bool { return accepted.Load() >= 5 && s.Mode() == Attached })
	mu.Lock()
	for i, f := range pipes {
		if gone(f) {
			t.Errorf("life pipe %d ended while the process uses its page", i)
		}
		if inodes[i] != inodes[0] {
			t.Errorf("hello %d brought another page to the same ledger", i)
		}
	}
	mu.Unlock()
	s.Close()
	until(t, "all life pipes ended", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range pipes {
			if !gone(f) {
				return false
			}
		}
		return true
	})
	for _, f := range pipes {
		f.Close()
	}
}

// A page goes back only to the ledger that filled it; another agent gets a new
// one, and the old one's pipe ends.
func TestNewLedgerNewPage(t *testing.T) {
	inodes := make(chan uint64, 2)
	pipes := make(chan *os.File, 2)
	lost := make(chan struct{})
	heard := func(c *net.UnixConn, _ *wire.Message, files []*os.File) []wire.Cell {
		p, err := page.Map(files[0])
		if err != nil {
			t.Errorf("the hello's page: %v", err)
			return nil
		}
		inodes <- p.Inode()
		p.Close()
		files[0].Close()
		pipes <- files[1]
		go func() { <-lost; c.Close() }()
		return []wire.Cell{}
	}
	second := friend(t, "second", func(c *net.UnixConn, m *wire.Message, files []*os.File) []wire.Cell {
		if len(m.Cells) > 0 {
			t.Errorf("a new page holds %+v", m.Cells)
		}
		return heard(c, m, files)
	})
	socket, _ := serve(t, friend(t, "first", heard), second)
	s := session(t, socket)
	s.Attach(t.Context())
	close(lost)
	a, b := <-inodes, <-inodes
	if a == b {
		t.Error("another ledger was given the same page")
	}
	one, two := <-pipes, <-pipes
	defer one.Close()
	defer two.Close()
	until(t, "the first page's pipe ended", func() bool { return gone(one) })
}

// The agent's policies that cannot be understood delay nothing, and change
// nothing.
func TestPoliciesNotUnderstood(t *testing.T) {
	for name, line := range map[string]string{
		"no set":    `{"type":"policies"}`,
		"wrong set": `{"type":"policies","set":{"version":7}}`,
		"no JSON":   `{"type":"policies","set":{"version":"one"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			control, file, err := page.NewControl()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close(); runtime.KeepAlive(control) })
			socket, _ := serve(t, func(c *net.UnixConn) {
				upgraded(c, "l")
				_, files, _, err := wire.ReceiveFiles(c, wire.MaxLine, 2)
				if err != nil {
					return
				}
				for _, f := range files {
					defer f.Close()
				}
				wire.SendFiles(c, &wire.Message{Type: wire.Welcome, Version: 1}, file)
				io.WriteString(c, line+"\n")
				hold(c)
			})
			s := session(t, socket)
			s.Attach(t.Context())
			began := time.Now()
			for range 10 {
				s.Attach(t.Context())
			}
			if took := time.Since(began); took > firstWait {
				t.Errorf("10 requests waited %v", took)
			}
			if s.Policies() != nil {
				t.Error("they are in force")
			}
		})
	}
}

func TestCloseIsForGood(t *testing.T) {
	socket, accepted := serve(t, friend(t, "l", func(_ *net.UnixConn, _ *wire.Message, files []*os.File) []wire.Cell {
		for _, f := range files {
			f.Close()
		}
		return []wire.Cell{}
	}))
	s := session(t, socket)
	s.Attach(t.Context())
	l := s.Limits("a", &s.Policies().Named("a").Policy)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	until(t, "closed", func() bool { return s.Mode() == Closed && !s.running.Load() })
	s.Attach(t.Context())
	if s.Mode() != Closed || accepted.Load() != 1 {
		t.Errorf("mode %s after %d connections, want closed for good", s.Mode(), accepted.Load())
	}
	for i := range 3 {
		if _, err := l.Acquire(t.Context()); err != nil {
			t.Errorf("permit %d of the process's own 3: %v", i, err)
		}
	}
	never := &Session{Socket: socket}
	never.Close()
	never.Attach(t.Context())
	if never.running.Load() || never.Policies() != nil {
		t.Error("a session closed before its first Attach was made all the same")
	}
}
