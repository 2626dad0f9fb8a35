package client

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	// probeWait is how long a caller waits for the agent's word on a probe.
	probeWait = 5 * time.Millisecond
	// probeAgain is how soon after a no the agent is asked again.
	probeAgain = 10 * time.Millisecond
	// cellAgain is the same for cells, of all circuits together. newAgain is for
	// how long a circuit that is new does not ask before its first call has
	// ended: one that is called often comes first.
	cellAgain = time.Second
	newAgain  = time.Minute
	// maxCircuits is how many circuits a session asks cells for again.
	maxCircuits = 4096
)

// Word is all that the agent says of a circuit; see [page.Circuit].
type Word = page.Circuit

// The states that a Word has.
const (
	CircuitClosed   = page.CircuitClosed
	CircuitOpen     = page.CircuitOpen
	CircuitHalfOpen = page.CircuitHalfOpen
	CircuitClosing  = page.CircuitClosing
)

// ClosingTime is how long a circuit takes to close.
const ClosingTime = page.ClosingTime

// ProbeTime is how long a probe may take from when it was given.
const ProbeTime = page.ProbeTime

type circuitKey struct{ upstream, authority string }

// Circuit is this process's side of a circuit that the host shares: what the
// agent says of it, and what this process has to say. Made by
// [Session.Circuit]; safe for concurrent use.
type Circuit struct {
	sess  *Session
	key   circuitKey
	bound atomic.Pointer[circuitBinding] // nil: no agent has given a cell, or it took it back
	asked atomic.Pointer[link]           // for a cell, and has not answered

	mu      sync.Mutex // guards what follows
	waiting []chan Probe
	noUntil time.Time
}

// circuitBinding is where a circuit's counts and its word are. Immutable. It
// keeps both mappings alive.
type circuitBinding struct {
	link    *link
	page    *page.Page
	cell    *page.Outcome
	index   int
	control *page.Control
	entry   int
}

// Circuit of an authority of the upstream called name. The first call makes it.
// The agent has room for [page.Outcomes] of a process: beyond these, the ones
// share their circuits that are called, and the others' are the process's own.
func (s *Session) Circuit(name, authority string) *Circuit {
	key := circuitKey{name, authority}
	s.mu.Lock()
	c := s.circuits[key]
	made := c == nil
	if made {
		c = &Circuit{sess: s, key: key}
		s.keepCircuit(c)
	}
	s.mu.Unlock()
	if made && !s.refusedWithin(newAgain) {
		c.open(s.link.Load())
	}
	return c
}

// refusedWithin says whether the agent had no cell in the last time d.
func (s *Session) refusedWithin(d time.Duration) bool {
	last := s.noCell.Load()
	return last != 0 && time.Since(epoch)-time.Duration(last) < d
}

// keepCircuit has the session know a circuit by its key, in place of one
// without a cell if there are too many. With the lock.
func (s *Session) keepCircuit(c *Circuit) {
	if s.circuits == nil {
		s.circuits = make(map[circuitKey]*Circuit)
	}
	if len(s.circuits) >= maxCircuits {
		for key, other := range s.circuits {
			if other.bound.Load() == nil {
				delete(s.circuits, key)
				other.asked.Store(nil) // the answer will find nobody
				break
			}
		}
	}
	s.circuits[c.key] = c
}

// open asks the agent for a cell.
func (c *Circuit) open(l *link) {
	if l != nil && l.control != nil {
		c.asked.Store(l)
		l.conn.Send(&wire.Message{Type: wire.Open, Cell: &wire.Cell{Upstream: c.key.upstream, Authority: c.key.authority, Kind: wire.CircuitBreaker}})
	}
}

// Called notes a call that began at about the time t and is not counted: of mode
// proportional, where each process judges for itself.
func (c *Circuit) Called(t time.Time) {
	if b := c.bound.Load(); b != nil {
		b.cell.Called(SinceBoot(t))
		runtime.KeepAlive(b)
	} else {
		c.want()
	}
}

// want asks for a cell again: a call found none. The agent had no room, or
// needed it while this authority was not called.
func (c *Circuit) want() {
	s := c.sess
	l, asked := s.link.Load(), c.asked.Load()
	if l == nil || l.control == nil || asked == l || s.refusedWithin(cellAgain) {
		return
	}
	if snap := s.Policies(); snap == nil || !c.shared(snap) || !c.asked.CompareAndSwap(asked, l) {
		return
	}
	s.mu.Lock()
	if s.circuits[c.key] == nil {
		s.keepCircuit(c)
	}
	known := s.circuits[c.key] == c
	s.mu.Unlock()
	if known { // else it is another policy's now
		c.open(l)
	}
}

// shared says whether the host shares the circuit by a snapshot.
func (c *Circuit) shared(snap *policies.Snapshot) bool {
	u := snap.Named(c.key.upstream)
	return u != nil && u.Policy.CircuitBreaker != nil && u.Policy.CircuitBreaker.Scope != policies.ScopeProcess
}

// allCircuits lists those that have cells, and those that have none.
func (s *Session) allCircuits() (bound, not []*Circuit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.circuits {
		if c.bound.Load() != nil {
			bound = append(bound, c)
		} else {
			not = append(not, c)
		}
	}
	return bound, not
}

// againCircuits asks a new connection for all cells. Another agent gives them
// in another order: until it is known which is whose, nothing is counted, or
// one authority's failures would be another's.
func (s *Session) againCircuits(l *link) {
	bound, not := s.allCircuits()
	for _, c := range bound {
		nowhere := *c.bound.Load()
		nowhere.cell = new(page.Outcome)
		c.bound.Store(&nowhere)
	}
	s.noCell.Store(0) // another agent may have room
	snap, room := s.Policies(), page.Outcomes
	for _, c := range append(bound, not...) {
		if room > 0 && (snap == nil || c.shared(snap)) {
			room--
			c.open(l)
		}
	}
}

// wantCircuits asks for the cells that no agent has given, or that one took
// back, of the circuits that the host shares by a new snapshot.
func (s *Session) wantCircuits(snap *policies.Snapshot) {
	l := s.link.Load()
	bound, not := s.allCircuits()
	room := page.Outcomes - len(bound)
	for _, c := range not {
		if room > 0 && c.shared(snap) {
			room--
			c.open(l)
		}
	}
}

// unbindCircuits makes all circuits the process's own.
func (s *Session) unbindCircuits() {
	bound, _ := s.allCircuits()
	for _, c := range bound {
		c.bound.Store(nil)
	}
}

// circuitAssigned is the agent's word on where a circuit's cell is.
func (s *Session) circuitAssigned(w *wire.Cell) {
	p, l := s.shared.Load(), s.link.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.circuits[circuitKey{w.Upstream, w.Authority}]
	if c == nil {
		return
	}
	answer := c.asked.Load() != nil // else it was taken
	defer c.asked.Store(nil)
	if p == nil || l == nil || l.control == nil || w.Index < 0 || w.Index >= page.Outcomes {
		if c.bound.Store(nil); answer {
			s.noCell.Store(int64(time.Since(epoch)))
		}
		return
	}
	s.outcomes[w.Index] = c
	c.bound.Store(&circuitBinding{link: l, page: p, cell: p.Outcome(w.Index), index: w.Index, control: l.control, entry: w.Entry})
}

// Word is what the agent says of the circuit now: one load. The zero Circuit
// where no agent has said anything. What an agent said that is gone goes on
// only as far as it has a set end; see [Circuit.Stands].
func (c *Circuit) Word() Word {
	b := c.bound.Load()
	if b == nil {
		return 0
	}
	w := b.control.Circuit(b.entry)
	runtime.KeepAlive(b)
	return w
}

// Stands says whether w is still to be obeyed: its agent is there, or it is
// open, or forced, until a time that has not come.
func (c *Circuit) Stands(w Word) bool {
	if b := c.bound.Load(); b == nil || c.sess.link.Load() != b.link {
		open := w.State() == page.CircuitOpen || w.State() == page.CircuitClosing
		return (open || w.Forced()) && SinceBoot(time.Now()) < w.Until()
	}
	return true
}

// Good counts a call that succeeded at about the time t.
func (c *Circuit) Good(t time.Time) {
	if b := c.bound.Load(); b != nil {
		b.cell.Good(SinceBoot(t))
		runtime.KeepAlive(b)
	} else {
		c.want()
	}
}

// Bad counts one that the upstream failed.
func (c *Circuit) Bad(t time.Time) {
	if b := c.bound.Load(); b != nil {
		if b.cell.Bad(SinceBoot(t)) {
			b.link.conn.SendHint(wire.Dirty, b.index)
		}
		runtime.KeepAlive(b)
	} else {
		c.want()
	}
}

// Slow counts one that took too long, before Good or Bad counts how it ended.
func (c *Circuit) Slow() {
	if b := c.bound.Load(); b != nil {
		if b.cell.Slow() {
			b.link.conn.SendHint(wire.Dirty, b.index)
		}
		runtime.KeepAlive(b)
	}
}

// Pause tells the agent that the upstream asked to come back after d, at most
// as long as the policy allows; said only where it is longer than is known.
func (c *Circuit) Pause(d time.Duration) {
	if b := c.bound.Load(); b != nil && SinceBoot(time.Now())+d > c.PausedUntil()+pauseStep {
		b.link.conn.Send(&wire.Message{Type: wire.Pause, Indexes: []int{b.index}, PauseMS: d.Milliseconds()})
	}
}

// pauseStep is how much longer a pause must be to be worth a message: where
// many calls get the same Retry-After, each one's ends a little later.
const pauseStep = 100 * time.Millisecond

// PausedUntil is until when, since boot, some process of the host was asked to
// stay away; zero: none was. One load.
func (c *Circuit) PausedUntil() time.Duration {
	b := c.bound.Load()
	if b == nil {
		return 0
	}
	until := b.control.Pause(b.entry)
	runtime.KeepAlive(b)
	return until
}

// Own counts one that failed for a reason of this process's own.
func (c *Circuit) Own(t time.Time) {
	if b := c.bound.Load(); b != nil {
		b.cell.Own(SinceBoot(t))
		runtime.KeepAlive(b)
	} else {
		c.want()
	}
}

// Probe is leave for one call to pass a half-open circuit. The zero Probe is
// none.
type Probe struct {
	from   *circuitBinding
	number uint64
}

// Given says whether there is one.
func (p Probe) Given() bool { return p.number != 0 }

// ProbeOutcome is how a probe's call ended.
type ProbeOutcome string

// The outcomes. ProbeNothing: it says nothing about the upstream, and another
// probe may begin.
const (
	ProbeSuccess ProbeOutcome = "success"
	ProbeFailure ProbeOutcome = "failure"
	ProbeNothing ProbeOutcome = ""
)

// End tells the agent, once for each probe that was given.
func (p Probe) End(o ProbeOutcome) {
	if p.number != 0 {
		p.from.link.conn.Send(&wire.Message{Type: wire.Probed, Indexes: []int{p.from.index}, Generation: p.number, Reason: string(o)})
	}
}

// Probe asks for one, and waits for the answer, 5 ms at most and as long as
// ctx allows. A no is remembered for 10 ms.
func (c *Circuit) Probe(ctx context.Context) Probe {
	b := c.bound.Load()
	if b == nil {
		return Probe{}
	}
	answer := make(chan Probe, 1)
	c.mu.Lock()
	if time.Now().Before(c.noUntil) {
		c.mu.Unlock()
		return Probe{}
	}
	c.waiting = append(c.waiting, answer)
	c.mu.Unlock()
	b.link.conn.SendHint(wire.Probe, b.index)

	timer := time.NewTimer(probeWait)
	defer timer.Stop()
	select {
	case p := <-answer:
		return p
	case <-timer.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, one := range c.waiting {
		if one == answer {
			c.waiting = append(c.waiting[:i:i], c.waiting[i+1:]...)
			return Probe{}
		}
	}
	return <-answer // it came in the last moment
}

// probeAnswered hands a probe to the caller that waits longest, or back.
func (s *Session) probeAnswered(index int, number uint64) {
	if index < 0 || index >= page.Outcomes {
		return
	}
	s.mu.Lock()
	c := s.outcomes[index]
	s.mu.Unlock()
	if c == nil {
		return
	}
	// Of the agent that gave it, which is not the one that was asked if the
	// connection is a new one.
	p := Probe{from: c.bound.Load(), number: number}
	c.mu.Lock()
	defer c.mu.Unlock()
	if number == 0 || p.from == nil {
		p.number = 0
		c.noUntil = time.Now().Add(probeAgain)
	}
	if len(c.waiting) == 0 {
		p.End(ProbeNothing)
		return
	}
	c.waiting[0] <- p
	c.waiting = c.waiting[1:]
}
