//go:build linux

package client

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

// desk plays the agent to a session by hand, in one goroutine: it grants in
// the session's page, and sees the messages that were sent.
type desk struct {
	t    *testing.T
	s    *Session
	page *page.Page
	far  int // the agent's end of the connection
}

// newDesk makes a session that is attached.
func newDesk(t *testing.T) *desk {
	t.Helper()
	p, f, err := page.New()
	if err != nil {
		t.Fatalf("a page: %v", err)
	}
	f.Close()
	d := &desk{t: t, s: &Session{}, page: p, far: -1}
	d.s.keep.page = p
	d.welcome()
	return d
}

// welcome makes a new connection, on which the cells go on.
func (d *desk) welcome(cells ...wire.Cell) {
	d.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "session")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		d.t.Fatal(err)
	}
	d.far = fds[1]
	d.t.Cleanup(func() { c.Close(); unix.Close(fds[1]) })
	control, file, err := page.NewControl()
	if err != nil {
		d.t.Fatal(err)
	}
	file.Close()
	conn := wire.NewConn(c.(*net.UnixConn), nil, wire.MaxAgentLine, 1<<20)
	d.s.welcomed(&link{conn: conn, control: control}, &wire.Message{Type: wire.Welcome, Cells: cells})
}

// lose ends the connection.
func (d *desk) lose() {
	d.s.link.Store(nil)
	d.s.away(errors.New("lost by the test"))
}

// said returns the types of the messages since the last time.
func (d *desk) said() (all []string) {
	buf := make([]byte, 1<<16)
	n, err := unix.Read(d.far, buf)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(buf[:n])) {
		var m wire.Message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			d.t.Fatalf("the session said %q", line)
		}
		all = append(all, string(m.Type))
	}
	return all
}

// assign gives the limit a new cell with so many permits.
func (d *desk) assign(kind wire.Kind, index int, epoch uint16, permits int) (*page.Cell, wire.Cell) {
	c := d.page.Cell(index)
	c.Open(epoch)
	c.SetTarget(epoch, permits)
	c.Grant(epoch, permits)
	w := wire.Cell{Upstream: "a", Kind: kind, Index: index, Epoch: epoch}
	d.s.handle(&wire.Message{Type: wire.Assign, Cell: &w})
	return c, w
}

// wake sends a wake-up, as the agent does.
func (d *desk) wake(index int) {
	if d.page.Cell(index).Wake() {
		d.s.handle(&wire.Message{Type: wire.Wake, Indexes: []int{index}})
	}
}

func (d *desk) cell(what string, c *page.Cell, want page.Word) {
	d.t.Helper()
	if got := c.Read(); got != want {
		d.t.Fatalf("%s: the cell has %+v, want %+v", what, got, want)
	}
}
