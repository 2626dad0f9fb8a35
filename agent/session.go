//go:build linux

package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

const (
	helloWithin = 2 * time.Second
	// maxQueue is how far a process may be behind in reading, beside the
	// newest two sets of policies: the one it is sent, and one that follows at once.
	maxQueue = 256 << 10
)

// session is one connection of one process.
type session struct {
	conn  *wire.Conn
	peer  peer
	proc  *process // nil: policies only
	since time.Time
}

// serve is a session from the 101 to its end.
func (a *Agent) serve(u *net.UnixConn, who peer) {
	defer u.Close()
	u.SetDeadline(time.Now().Add(helloWithin))
	a.mu.Lock()
	if a.down {
		a.mu.Unlock()
		return
	}
	a.greeting[u] = struct{}{}
	a.mu.Unlock()
	s, err := a.greet(u, who)
	a.mu.Lock()
	delete(a.greeting, u)
	a.mu.Unlock()
	if err != nil {
		a.refuseSession(who, causeOf(err), err)
		u.SetDeadline(time.Now().Add(helloWithin)) // that of the hello may have passed
		wire.SendFiles(u, &wire.Message{Type: wire.Refuse, Reason: err.Error()})
		return
	}
	a.events.add(Event{Kind: SessionBegan, PID: who.pid, UID: &who.uid})
	err = a.read(s)
	ended := Event{Kind: SessionEnded, PID: who.pid, UID: &who.uid}
	if errors.Is(err, wire.ErrBehind) {
		ended.Text = "closed: the process does not read, or is stopped"
		a.warn("session closed: the process does not read, or is stopped; it may come back", who.uid, "pid", who.pid)
	}
	a.events.add(ended)
	a.mu.Lock()
	delete(a.sessions, s)
	if s.proc != nil && s.proc.session == s {
		s.proc.session = nil
	}
	a.mu.Unlock()
	a.log().Debug("session ended", "pid", who.pid, "uid", who.uid, "reason", err)
}

// greet reads the hello and answers it.
func (a *Agent) greet(u *net.UnixConn, who peer) (*session, error) {
	m, files, rest, err := wire.ReceiveFiles(u, 2*wire.MaxLine, 2)
	if err != nil {
		return nil, err
	}
	s := &session{peer: who, since: time.Now()}
	var mapped *page.Page
	var life *os.File
	switch {
	case m.Type != wire.Hello || m.Version < 1:
		err = fmt.Errorf("the first message is %.40q of version %d, want a hello of version 1 or later", m.Type, m.Version)
	case len(files) == 2:
		mapped, err = page.Map(files[0])
		life = files[1]
	case len(files) != 0:
		err = fmt.Errorf("%d descriptors with the hello, want a page and a life pipe", len(files))
	}
	for _, f := range files {
		if f != life || err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	welcome := &wire.Message{Type: wire.Welcome, Version: min(m.Version, wire.Version)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		if mapped != nil {
			mapped.Close()
			life.Close()
		}
		return nil, errStopping
	}
	if mapped == nil {
		if err := wire.SendFiles(u, welcome); err != nil {
			return nil, err
		}
	} else {
		if s.proc, welcome.Cells, err = a.adopt(who, mapped, life, m.Cells); err != nil {
			life.Close()
			return nil, err
		}
		if left := a.alloc.recoverUntil - a.now(); left > 0 {
			welcome.RecoverMS = int(left.Milliseconds()) + 1
		}
		// The first bytes on a fresh socket: it has room for them.
		if err := wire.SendFiles(u, welcome, a.controlFile); err != nil {
			return nil, err
		}
		s.proc.session = s
	}
	u.SetDeadline(time.Time{}) // before the connection sets its own
	s.conn = wire.NewConn(u, rest, wire.MaxLine, maxQueue+len(a.line))
	a.sessions[s] = struct{}{}
	s.conn.SendLine(a.line)
	return s, nil
}

// adopt joins a connection with its process's page. With the lock.
func (a *Agent) adopt(who peer, mapped *page.Page, life *os.File, held []wire.Cell) (*process, []wire.Cell, error) {
	id := identity{pid: who.pid, uid: who.uid, start: who.start, ino: mapped.Inode()}
	p := a.alloc.processes[id]
	if p != nil && p.dead {
		mapped.Close()
		return nil, nil, errors.New("the page's life pipe has ended: use a new page")
	}
	if p == nil {
		if len(a.alloc.processes) >= maxProcesses {
			mapped.Close()
			return nil, nil, errFull
		}
		var err error
		if p, err = a.alloc.addProcess(id, nil); err != nil {
			mapped.Close()
			return nil, nil, err
		}
	}
	// An older connection of the same page ends; what it held goes on.
	if p.session != nil {
		p.session.conn.Close()
		p.session = nil
	}
	if p.page != nil {
		p.page.Close()
	}
	p.page = mapped
	p.remapped()
	older := p.life
	p.life = life
	err := a.watch.add(life, false, func() { a.lifeEnded(p, life) })
	if err == nil && p.pidfd == nil {
		if f, ok := living(id); ok {
			p.pidfd = f
			err = a.watch.add(f, true, func() { a.ended(p) })
		}
	}
	a.watch.remove(older)
	if err != nil {
		p.life = nil
		a.endLocked(p)
		return nil, nil, err
	}
	cells := a.alloc.takeIn(p, held, a.now())
	a.rouseLoop()
	return p, cells, nil
}

// lifeEnded: the process has exited, or executed another program, or let go
// of the page. An older pipe of the same page says nothing.
func (a *Agent) lifeEnded(p *process, life *os.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.life == life {
		a.endLocked(p)
	}
}

// read does what the process says until the connection ends.
func (a *Agent) read(s *session) error {
	for {
		m, err := s.conn.Receive()
		if err != nil {
			return err
		}
		if s.proc == nil {
			continue
		}
		a.mu.Lock()
		if s.proc.session == s && !s.proc.dead {
			a.handle(s, m)
			a.rouseLoop()
		}
		a.mu.Unlock()
	}
}

// handle does what one message says. With the lock.
func (a *Agent) handle(s *session, m *wire.Message) {
	now := a.now()
	switch m.Type {
	case wire.Want, wire.Free:
		for _, i := range m.Indexes[:min(len(m.Indexes), page.Cells)] {
			a.alloc.lookAt(s.proc, i, now)
		}
	case wire.Open:
		if m.Cell == nil {
			return
		}
		if m.Cell.Kind == wire.CircuitBreaker {
			c := a.openCircuit(s.proc, circuitKey{m.Cell.Upstream, m.Cell.Authority}, now)
			s.conn.Send(&wire.Message{Type: wire.Assign, Cell: &c})
			if c.Index < 0 {
				a.warn("circuit not shared", s.peer.uid, "pid", s.peer.pid, "reason", c.Reason)
			}
			return
		}
		c, ok := a.alloc.open(s.proc, limitKey{m.Cell.Upstream, m.Cell.Kind}, now)
		s.conn.Send(&wire.Message{Type: wire.Assign, Cell: &c})
		if !ok {
			a.log().Debug("limit not shared", "pid", s.peer.pid, "upstream", m.Cell.Upstream, "kind", m.Cell.Kind, "reason", c.Reason)
		}
	case wire.Dirty, wire.Probe, wire.Probed, wire.Pause:
		a.handleCircuit(s, m)
	case wire.Bye:
		a.endLocked(s.proc)
	}
}

// sendWake is the allocator's wake-up.
func sendWake(p *process, cell int) {
	p.session.conn.SendHint(wire.Wake, cell)
}

func sendGone(p *process, c wire.Cell) {
	p.session.conn.Send(&wire.Message{Type: wire.Assign, Cell: &c})
}
