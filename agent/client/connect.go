package client

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

// handshakeWithin bounds the whole beginning of a session.
const handshakeWithin = 2 * time.Second

// link is one connection to the agent, after the welcome. Immutable.
type link struct {
	conn    *wire.Conn
	control *page.Control // nil: no memory is shared
}

// handshake makes a session on a new connection: upgrade, hello, welcome.
func (s *Session) handshake(conn *net.UnixConn) (*link, error) {
	conn.SetDeadline(time.Now().Add(handshakeWithin))
	ledger, wanted, err := upgrade(conn)
	if err != nil {
		return nil, err
	}
	s.preparePage(ledger, wanted)
	hello := &wire.Message{Type: wire.Hello, Version: wire.Version, Library: "resagent-go", Cells: s.heldCells()}
	var files []*os.File
	if s.keep.file != nil {
		files = []*os.File{s.keep.file, s.keep.life.read}
	}
	if err := wire.SendFiles(conn, hello, files...); err != nil {
		return nil, err
	}
	m, passed, rest, err := wire.ReceiveFiles(conn, wire.MaxAgentLine, 1)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range passed {
			f.Close()
		}
	}()
	if m.Type != wire.Welcome {
		return nil, fmt.Errorf("client: the agent refused the session: %s", m.Reason)
	}
	l := &link{conn: wire.NewConn(conn, rest, wire.MaxAgentLine, 1<<20)}
	if len(files) > 0 {
		if len(passed) == 0 {
			return nil, errors.New("client: the agent's welcome has no control page")
		}
		if l.control, err = page.MapControl(passed[0]); err != nil {
			return nil, err
		}
	}
	conn.SetDeadline(time.Time{})
	s.welcomed(l, m)
	return l, nil
}

// upgrade turns an HTTP connection into a session's. It returns the agent's
// ledger, and whether pages of a lost one are wanted back.
func upgrade(conn *net.UnixConn) (ledger string, wanted bool, err error) {
	_, err = io.WriteString(conn, "GET /v1/session HTTP/1.1\r\nHost: resagent\r\nConnection: Upgrade\r\nUpgrade: "+wire.Upgrade+"\r\n\r\n")
	if err != nil {
		return "", false, fmt.Errorf("client: asking for a session: %w", err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return "", false, fmt.Errorf("client: asking for a session: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return "", false, fmt.Errorf("client: the agent answered %s: %s", resp.Status, reason(resp.Body))
	}
	if in.Buffered() > 0 {
		return "", false, errors.New("client: the agent spoke before the hello")
	}
	return resp.Header.Get(wire.LedgerHeader), resp.Header.Get(wire.LostHeader) == "1", nil
}

// reason is what the body of an answer says: the detail of a problem, or the
// text of what is no agent.
func reason(body io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(body, 1<<10))
	var problem struct{ Title, Detail string }
	if json.Unmarshal(text, &problem) == nil && problem.Title != "" {
		return problem.Title + ": " + problem.Detail
	}
	return strings.TrimSpace(string(text))
}

// preparePage makes a page, unless the one there is may go back: to the
// ledger that filled it, or to an agent that lost its ledger and asks.
func (s *Session) preparePage(ledger string, wanted bool) {
	if s.keep.file != nil && (s.keep.ledger == ledger || wanted) {
		s.keep.ledger = ledger
		return
	}
	p, f, err := page.New()
	var pipe life
	if err == nil {
		if pipe.read, pipe.write, err = os.Pipe(); err != nil {
			f.Close()
		}
	}
	if err != nil {
		if !s.keep.said && s.Logger != nil {
			s.Logger.Warn("resagent: limits are this process's own: no memory can be shared with the agent", "reason", err)
		}
		s.keep.said = true
		return
	}
	if s.keep.file != nil {
		s.keep.file.Close()
		s.keep.life.close()
	}
	s.keep.page, s.keep.file, s.keep.life, s.keep.ledger = p, f, pipe, ledger
}

// heldCells says what the page holds, for an agent that may not know.
func (s *Session) heldCells() []wire.Cell {
	var cells []wire.Cell
	if s.shared.Load() != s.keep.page {
		return nil // a new page, not in use yet
	}
	for _, l := range s.all() {
		for _, g := range l.gates() {
			if b := g.bound.Load(); b.kind == hosted {
				cells = append(cells, wire.Cell{Upstream: g.name, Kind: g.kind, Index: b.index, Epoch: b.epoch})
			}
		}
	}
	return cells
}

// settle ends the drawn-out leaving of an earlier cell: this agent may not know
// of it. What is in use there is extra from now on.
func (g *gate) settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left != nil {
		g.extra += g.left.cell.Close(g.left.epoch)
		g.left = nil
		g.tellExtra()
	}
}

// lose leaves a cell that no agent will look at again.
func (g *gate) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bound.Load().kind == hosted {
		g.rebind(&binding{cell: closed, index: -1, kind: opening}, true)
	}
}

// welcomed puts a new connection to use.
func (s *Session) welcomed(l *link, m *wire.Message) {
	now := time.Now()
	// Callers whose time ran out while the agent was away are given a moment
	// for the grants that now come.
	until := now.Add(100*time.Millisecond + time.Duration(m.RecoverMS)*time.Millisecond)
	s.patience.Store(&until)
	s.lost.Store(nil)
	s.trouble.Store(nil)
	accepted := make(map[wire.Cell]bool)
	for _, c := range m.Cells {
		accepted[wire.Cell{Upstream: c.Upstream, Kind: c.Kind, Index: c.Index, Epoch: c.Epoch}] = true
	}
	s.link.Store(l)
	// Only now: limits wait for cells of a shared page.
	s.shared.Store(s.keep.page)
	s.lifeline.Store(s.keep.life.write)
	for _, limits := range s.all() {
		for _, g := range limits.gates() {
			g.settle()
			b := g.bound.Load()
			if b.kind == hosted && !accepted[wire.Cell{Upstream: g.name, Kind: g.kind, Index: b.index, Epoch: b.epoch}] {
				g.lose()
			}
			g.again()
		}
	}
	s.againCircuits(l)
	if l.control != nil {
		s.setMode(Attached, nil)
	} else {
		s.setMode(Policing, nil)
	}
}

// again tells a new connection what the gate needs.
func (g *gate) again() {
	g.configure(g.rules.Load())
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = false
	g.tellExtra()
	g.drain(time.Now())
	g.ask()
}
