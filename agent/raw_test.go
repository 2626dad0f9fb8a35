//go:build linux

package agent_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after 20 s: not yet %s", what)
		}
	}
}

// raw is a session spoken by hand.
type raw struct {
	t    *testing.T
	unix *net.UnixConn
	conn *wire.Conn
	head *http.Response
}

// upgrade begins a session, up to the agent's answer.
func (h *host) upgrade() *raw {
	h.t.Helper()
	c, err := net.Dial("unix", filepath.Join(h.dir, "agent.sock"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET /v1/session HTTP/1.1\r\nHost: resagent\r\nConnection: Upgrade\r\nUpgrade: "+wire.Upgrade+"\r\n\r\n")
	head, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		h.t.Fatalf("asking for a session: %v", err)
	}
	return &raw{t: h.t.(*testing.T), unix: c.(*net.UnixConn), head: head}
}

// hello says it, and returns the first answer.
func (r *raw) hello(m *wire.Message, files ...*os.File) *wire.Message {
	r.t.Helper()
	if err := wire.SendFiles(r.unix, m, files...); err != nil {
		r.t.Fatalf("hello: %v", err)
	}
	return r.answer()
}

func (r *raw) answer() *wire.Message {
	r.t.Helper()
	got, passed, rest, err := wire.ReceiveFiles(r.unix, wire.MaxAgentLine, 1)
	if err != nil {
		r.t.Fatalf("the answer to the hello: %v", err)
	}
	for _, f := range passed {
		f.Close()
	}
	r.conn = wire.NewConn(r.unix, rest, wire.MaxAgentLine, 1<<20)
	return got
}

// next is the next message of a type.
func (r *raw) next(typ wire.Type) *wire.Message {
	r.t.Helper()
	for {
		m, err := r.conn.Receive()
		if err != nil {
			r.t.Fatalf("waiting for %s: %v", typ, err)
		}
		if m.Type == typ {
			return m
		}
	}
}

// ends waits for the end of the session.
func (r *raw) ends(what string) {
	r.t.Helper()
	for {
		if _, err := r.conn.Receive(); errors.Is(err, os.ErrDeadlineExceeded) {
			r.t.Fatalf("%s: the session goes on", what)
		} else if err != nil {
			return
		}
	}
}

// own is what a process brings to its session.
type own struct {
	page        *page.Page
	file        *os.File
	read, write *os.File
}

func bring(t *testing.T) *own {
	t.Helper()
	p, f, err := page.New()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); r.Close(); w.Close(); runtime.KeepAlive(p) }) // with its cells
	return &own{p, f, r, w}
}

// greet makes a whole session.
func (h *host) greet(o *own, cells ...wire.Cell) (*raw, *wire.Message) {
	h.t.Helper()
	r := h.upgrade()
	m := r.hello(&wire.Message{Type: wire.Hello, Version: 1, Cells: cells}, o.file, o.read)
	if m.Type != wire.Welcome {
		h.t.Fatalf("the agent says %+v, want welcome", m)
	}
	return r, m
}

// open asks for the bulkhead's cell, and for so many permits.
func (r *raw) open(o *own, permits int) (*page.Cell, wire.Cell) {
	r.t.Helper()
	r.conn.Send(&wire.Message{Type: wire.Open, Cell: &wire.Cell{Upstream: "shop", Kind: wire.Bulkhead}})
	w := *r.next(wire.Assign).Cell
	c := o.page.Cell(w.Index)
	c.SetWaiting(w.Epoch, permits)
	r.conn.Send(&wire.Message{Type: wire.Want, Indexes: []int{w.Index}})
	until(r.t, "granted", func() bool { return c.Read().Available >= permits })
	for range permits {
		if !c.Acquire(w.Epoch, 1) {
			r.t.Fatalf("a granted permit cannot be taken: %+v", c.Read())
		}
	}
	c.SetWaiting(w.Epoch, 0)
	return c, w
}

func (h *host) limit() agent.LimitStatus {
	for _, l := range h.running.Status().Limits {
		if l.Upstream == "shop" && l.Kind == wire.Bulkhead {
			return l
		}
	}
	return agent.LimitStatus{}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
