package client

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	// lookEvery is how often the agent's heartbeat is looked at.
	lookEvery = 250 * time.Millisecond
	// silentWaiting and silentIdle are how long the heartbeat may stand still,
	// with and without callers that wait.
	silentWaiting = 500 * time.Millisecond
	silentIdle    = 3 * time.Second

	redialMin = 10 * time.Millisecond
	redialMax = 2 * time.Second
)

var errSilent = errors.New("client: the agent's heartbeat stands still")

// run is the session's goroutine: it lives from the first connection to
// Close, or ends if the first one comes to nothing.
func (s *Session) run(conn *net.UnixConn) {
	attached := false
	for conn != nil {
		l, err := s.handshake(conn)
		if err == nil {
			attached = true
			err = s.listen(l)
			s.link.Store(nil)
		}
		conn.Close()
		if s.stopped() {
			break
		}
		s.trouble.Store(&err)
		if !attached {
			// Not an agent, or one that refuses: as if there were none.
			if s.Logger != nil {
				s.Logger.Warn("resagent: no session with the agent; limits are this process's own", "socket", s.path(), "reason", err)
			}
			s.alone()
			s.heard()
			s.running.Store(false)
			return
		}
		s.away(err)
		conn = s.redial()
	}
	s.end()
}

func (s *Session) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// heard lets the first requests go on.
func (s *Session) heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.first:
	default:
		close(s.first)
	}
}

// listen reads what the agent says until it is lost.
func (s *Session) listen(l *link) error {
	last, since := uint64(0), time.Now()
	for {
		l.conn.SetReadDeadline(time.Now().Add(lookEvery))
		if s.stopped() {
			return nil
		}
		m, err := l.conn.Receive()
		if err == nil {
			since = time.Now()
			s.handle(m)
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if l.control == nil {
			continue
		}
		if beat := l.control.Heartbeat(); beat != last {
			last, since = beat, time.Now()
			continue
		}
		silent := time.Since(since)
		if silent >= silentIdle || silent >= silentWaiting && s.anyWaiting() {
			return errSilent
		}
	}
}

func (s *Session) anyWaiting() bool {
	for _, l := range s.all() {
		for _, g := range l.gates() {
			if g.waiting.Load() > 0 {
				return true
			}
		}
	}
	return false
}

// drainWaiting looks again at what callers may have.
func (s *Session) drainWaiting() {
	for _, l := range s.all() {
		for _, g := range l.gates() {
			if g.waiting.Load() > 0 {
				g.mu.Lock()
				g.drain(time.Now())
				g.mu.Unlock()
			}
		}
	}
}

// handle does what one message says. Types it does not know are ignored.
func (s *Session) handle(m *wire.Message) {
	switch m.Type {
	case wire.Policies:
		if m.Set != nil {
			s.setPolicies(m.Set)
		}
	case wire.Assign:
		if m.Cell == nil {
			return
		}
		if m.Cell.Kind == wire.CircuitBreaker {
			s.circuitAssigned(m.Cell)
			return
		}
		s.assigned(m.Cell)
	case wire.Probe:
		for _, i := range m.Indexes {
			s.probeAnswered(i, m.Generation)
		}
	case wire.Wake:
		for _, i := range m.Indexes {
			if g := s.gateAt(i); g != nil {
				g.woken()
			}
		}
	}
}

func (s *Session) gateAt(index int) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index < 0 || index >= len(s.cells) {
		return nil
	}
	return s.cells[index]
}

// setPolicies puts a new set in force for every limit there is.
func (s *Session) setPolicies(set *policies.Set) {
	snap, err := policies.Compile(set)
	if err != nil {
		// A newer agent may say what this library cannot check: the set in
		// force goes on.
		if s.Logger != nil {
			s.Logger.Error("resagent: the agent's policies were not understood; the earlier ones go on", "reason", err)
		}
		s.heard()
		return
	}
	s.snapshot.Store(snap)
	s.mu.Lock()
	names := make(map[string]*Limits, len(s.limits))
	for name, l := range s.limits {
		names[name] = l
	}
	s.mu.Unlock()
	for name, l := range names {
		var p *policies.Policy
		if u := snap.Named(name); u != nil {
			p = &u.Policy
		}
		l.configure(p)
	}
	s.wantCircuits(snap)
	s.heard()
}

// assigned is the agent's word on where a limit's cell is.
func (s *Session) assigned(c *wire.Cell) {
	s.mu.Lock()
	l := s.limits[c.Upstream]
	s.mu.Unlock()
	if l == nil {
		return
	}
	g := l.gate(c.Kind)
	if g == nil {
		return
	}
	p := s.shared.Load()
	if c.Index < 0 || c.Index >= len(s.cells) || p == nil {
		g.unhosted()
		return
	}
	s.mu.Lock()
	s.cells[c.Index] = g
	s.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.bound.Load()
	if old.kind == hosted && old.page == p && old.index == c.Index && old.epoch == c.Epoch {
		return
	}
	g.rebind(&binding{page: p, cell: p.Cell(c.Index), epoch: c.Epoch, index: c.Index, kind: hosted}, old.kind != hosted)
}

// unhosted makes the limit the process's own: the agent has none of it, or
// none any more.
func (g *gate) unhosted() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rebind(newPrivate(), false)
	g.resize(g.rules.Load())
	g.drain(time.Now())
}

// away goes over to what on_agent_loss says.
func (s *Session) away(why error) {
	now := time.Now()
	until := now.Add(grace)
	s.patience.Store(&until)
	s.lost.Store(&now)
	s.setMode(Lost, why)
	for _, l := range s.all() {
		for _, g := range l.gates() {
			g.mu.Lock()
			g.asked = false
			g.drain(now)
			if g.queue.Len() > 0 {
				s.hurry()
			}
			g.mu.Unlock()
		}
	}
}

// redial looks for the agent until it is back, quickly while callers wait.
func (s *Session) redial() *net.UnixConn {
	pause := redialMin
	for {
		wait := between(pause/2+1, pause+2)
		if s.anyWaiting() {
			wait = between(redialMin, 5*redialMin)
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.stop:
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.kick:
			timer.Reset(between(redialMin, 5*redialMin))
			<-timer.C
		}
		if conn, err := dial(s.path()); err == nil {
			return conn
		}
		s.drainWaiting() // the floor comes with time
		pause = min(2*pause, redialMax)
	}
}

// alone leaves the shared page: the limits go on as the process's own.
func (s *Session) alone() {
	s.shared.Store(nil)
	s.lost.Store(nil)
	s.unbindCircuits()
	for _, l := range s.all() {
		for _, g := range l.gates() {
			g.configure(g.rules.Load())
		}
	}
	if s.keep.file != nil {
		s.keep.file.Close()
		s.keep.life.close()
		s.keep.page, s.keep.file, s.keep.life = nil, nil, life{}
	}
}

// end is alone, for good.
func (s *Session) end() {
	s.alone()
	s.setMode(Closed, nil)
	s.trouble.Store(nil)
	s.heard()
	s.running.Store(false)
}
