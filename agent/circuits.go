//go:build linux

package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	// maxCircuitsPerUID bounds how many circuits the processes of one user may
	// have begun.
	maxCircuitsPerUID = 1024
	maxAuthority      = 512 // bytes of a name
	// cellsAtOnce bounds how many outcome cells are read in one turn of the
	// loop, and cellRest is for how long none is afterwards, for each: one
	// user's processes have up to 127,000, which must not keep the agent from
	// all else. The file for a later agent rests keptRest times as long as
	// writing it took.
	cellsAtOnce = 1000
	cellRest    = 5 * time.Microsecond
	keptRest    = 20
)

// circuits are those of the host. With the agent's lock.
type circuits struct {
	all    map[circuitKey]*circuit
	due    map[*circuit]struct{} // with a time to come again
	free   []int                 // entries of the control page, the longest free first
	begun  map[int]int           // by uid
	starts map[*circuit]int      // the uid that began it
	sought map[int]time.Duration // by uid: when room was last made for it
	inPage int                   // most cells of a process, page.Outcomes
	ofUser int                   // most circuits that a user may have begun, maxCircuitsPerUID
	forced map[string]*Forced    // by upstream
	// changed: what a later agent is told is not what the file says.
	changed bool
	unkept  bool // the log says that the file cannot be written
	// rest and keptRest are until when none is looked at, and the file is not
	// written.
	rest, keptRest time.Duration
}

func newCircuits() circuits {
	c := circuits{
		all: map[circuitKey]*circuit{}, due: map[*circuit]struct{}{},
		forced: map[string]*Forced{}, begun: map[int]int{}, starts: map[*circuit]int{}, sought: map[int]time.Duration{}, free: make([]int, page.Circuits),
		inPage: page.Outcomes, ofUser: maxCircuitsPerUID,
	}
	for i := range c.free {
		c.free[i] = i
	}
	return c
}

// circuitSettings finds what the policies say of an upstream's circuits; nil:
// they are not shared.
func circuitSettings(s *policies.Snapshot, upstream string) *policies.CircuitBreaker {
	if u := s.Named(upstream); u != nil && u.Policy.CircuitBreaker != nil && u.Policy.CircuitBreaker.Scope != policies.ScopeProcess {
		return u.Policy.CircuitBreaker
	}
	return nil
}

// openCircuit gives a process its cell of a circuit.
func (a *Agent) openCircuit(p *process, key circuitKey, now time.Duration) wire.Cell {
	answer := wire.Cell{Upstream: key.upstream, Authority: key.authority, Kind: wire.CircuitBreaker, Index: -1}
	for i, c := range p.outcomes {
		if c.key == key {
			answer.Index, answer.Entry = i, c.entry
			c.dirty(now) // what it told may have gone with its connection
			a.plan(c)
			return answer
		}
	}
	if len(p.outcomes) >= a.circuits.inPage && !a.roomInPage(p, now) {
		answer.Reason = "this process's page has no outcome cell left"
		return answer
	}
	c, why := a.circuit(key, p.id.uid)
	if c == nil {
		answer.Reason = why
		return answer
	}
	if p.outcomes == nil {
		p.outcomes = map[int]*circuit{}
	}
	// Neither a cell nor an entry that has come free is used again soon: who had
	// it may not have heard of that.
	i := p.newest
	for p.outcomes[i] != nil {
		i = (i + 1) % page.Outcomes
	}
	p.outcomes[i], p.newest = c, (i+1)%page.Outcomes
	one := &caller{uid: p.id.uid, cell: p.page.Outcome(i), index: i, got: now}
	one.cell.Clean()
	one.anew(now)
	one.ownAt = one.seen.Own
	c.callers[p] = one
	answer.Index, answer.Entry = i, c.entry
	return answer
}

// circuit finds or makes one.
func (a *Agent) circuit(key circuitKey, uid int) (*circuit, string) {
	if c := a.circuits.all[key]; c != nil {
		return c, ""
	}
	set := circuitSettings(a.snapshot, key.upstream)
	switch {
	case set == nil:
		return nil, "no circuit of the host"
	case len(key.authority) > maxAuthority:
		return nil, "the authority's name is too long"
	case a.circuits.begun[uid] >= a.circuits.ofUser && !a.roomOnHost(uid, false):
		return nil, "this user has begun 1024 circuits already"
	case len(a.circuits.free) == 0 && !a.roomOnHost(uid, true):
		return nil, "the host has 4000 circuits already"
	}
	c := &circuit{key: key, entry: a.circuits.free[0], set: *set, callers: map[*process]*caller{}, show: a.showCircuit}
	a.circuits.begun[uid]++
	a.circuits.starts[c] = uid
	c.word = a.control.Circuit(c.entry) // of an earlier use: its epoch goes on
	if c.word != 0 {
		c.change(page.CircuitClosed, 0, a.now(), "new")
	}
	a.control.SetPause(c.entry, 0)
	a.circuits.free = a.circuits.free[1:]
	a.circuits.all[key] = c
	if f := a.circuits.forced[key.upstream]; f != nil && a.now() < f.until {
		c.force(f, a.now())
		a.plan(c)
	}
	return c, ""
}

var circuitKinds = map[page.State]EventKind{
	page.CircuitOpen: CircuitOpened, page.CircuitHalfOpen: CircuitHalfOpened, page.CircuitClosing: CircuitClosing, page.CircuitClosed: CircuitClosed,
}

// showCircuit tells everybody of a change.
func (a *Agent) showCircuit(c *circuit) {
	a.control.SetCircuit(c.entry, c.word)
	a.circuits.changed = true
	text := c.key.authority + ": " + c.why
	if until := c.word.Until(); c.word.State() == page.CircuitOpen && c.forced == nil {
		text += fmt.Sprintf("; the next probe in %v", (until - a.now()).Round(100*time.Millisecond))
	}
	a.events.add(Event{Kind: circuitKinds[c.word.State()], Upstream: c.key.upstream, Text: text, from: a.circuits.starts[c]})
	a.logCircuit(c)
}

// plan has the loop come again when the circuit asks for it.
func (a *Agent) plan(c *circuit) {
	if c.next > 0 {
		a.circuits.due[c] = struct{}{}
	} else {
		delete(a.circuits.due, c)
	}
}

// tickCircuits does what is due, and says when to come again; zero: when told.
func (a *Agent) tickCircuits(now time.Duration) (next time.Duration) {
	for upstream, f := range a.circuits.forced {
		if f.until <= now {
			a.orderEnded(upstream, f, "its time is over")
		} else if next == 0 || f.until < next {
			next = f.until
		}
	}
	if now < a.circuits.rest {
		return a.circuits.rest
	}
	var due []*circuit
	cells := 0
	for c := range a.circuits.due {
		if c.next <= now {
			due, cells = append(due, c), cells+len(c.callers)
		}
	}
	if cells > cellsAtOnce {
		slices.SortFunc(due, func(x, y *circuit) int { return cmp.Compare(x.next, y.next) })
	}
	cells = 0
	for _, c := range due {
		if cells >= cellsAtOnce {
			break
		}
		cells += len(c.callers)
		c.tick(now)
		a.plan(c)
		a.dropCircuit(c)
	}
	a.circuits.rest = now + time.Duration(cells)*cellRest
	for c := range a.circuits.due {
		if at := max(c.next, a.circuits.rest); next == 0 || at < next {
			next = at
		}
	}
	if a.circuits.changed {
		if began := a.now(); began >= a.circuits.keptRest && a.keepCircuits() == nil {
			a.circuits.keptRest = began + (1+keptRest)*(a.now()-began)
		} else if next == 0 || a.circuits.keptRest < next {
			next = a.circuits.keptRest
		}
	}
	return next
}

// handleCircuit does what a process says of its circuits.
func (a *Agent) handleCircuit(s *session, m *wire.Message) {
	now := a.now()
	for _, i := range m.Indexes[:min(len(m.Indexes), page.Outcomes)] {
		c := s.proc.outcomes[i]
		if c == nil {
			continue
		}
		switch m.Type {
		case wire.Dirty:
			c.dirty(now)
		case wire.Probe:
			s.conn.Send(&wire.Message{Type: wire.Probe, Indexes: []int{i}, Generation: c.ask(s.proc, now)})
		case wire.Probed:
			c.probeEnded(s.proc, m.Generation, m.Reason, now)
		case wire.Pause:
			a.pause(c, s.proc, time.Duration(min(max(0, m.PauseMS), int64(mostForced/time.Millisecond)))*time.Millisecond, now)
		}
		a.plan(c)
	}
}

// remapped follows a process's page to another mapping of it.
func (p *process) remapped() {
	for i, c := range p.outcomes {
		if one := c.callers[p]; one != nil {
			one.cell = p.page.Outcome(i)
		}
	}
}

// leaveCircuits is the end of a process.
func (a *Agent) leaveCircuits(p *process) {
	for _, c := range p.outcomes {
		c.left(p)
		if c.word.State() == page.CircuitHalfOpen && c.forced == nil {
			c.next = c.forgotten()
			if len(c.callers) > 0 {
				c.tick(a.now()) // for the probes that others have
			}
			a.plan(c)
		}
		a.dropCircuit(c)
	}
	p.outcomes = nil
}

// dropCircuit forgets a circuit that nobody calls: a closed one, and one that
// was half-open for long.
func (a *Agent) dropCircuit(c *circuit) {
	if len(c.callers) > 0 || c.forced != nil {
		return
	}
	switch c.word.State() {
	case page.CircuitClosed:
	case page.CircuitHalfOpen:
		if a.now() < c.forgotten() {
			return
		}
		a.circuits.changed = true
	default:
		return
	}
	uid := a.circuits.starts[c]
	if a.circuits.begun[uid]--; a.circuits.begun[uid] == 0 {
		delete(a.circuits.begun, uid)
	}
	delete(a.circuits.starts, c)
	delete(a.circuits.all, c.key)
	delete(a.circuits.due, c)
	a.circuits.free = append(a.circuits.free, c.entry)
}

// circuitPolicies follows a reload. A circuit that is no longer the host's is
// closed, and its processes are told.
func (a *Agent) circuitPolicies(s *policies.Snapshot) {
	now := a.now()
	for upstream, f := range a.circuits.forced {
		if circuitSettings(s, upstream) == nil {
			a.orderEnded(upstream, f, noCircuit)
		}
	}
	for key, c := range a.circuits.all {
		if set := circuitSettings(s, key.upstream); set != nil {
			c.set = *set
			if set.Mode == policies.ModeProportional && c.forced == nil && c.word.State() != page.CircuitClosed {
				c.release(now, "each process judges for itself from now on")
				a.plan(c)
				a.dropCircuit(c)
			}
			continue
		}
		if c.forced != nil || c.word.State() != page.CircuitClosed {
			c.release(now, noCircuit)
		}
		for p := range c.callers {
			a.takeCell(c, p, "removed by a reload")
		}
		a.dropCircuit(c)
	}
}

// CircuitStatus is one circuit of the host.
type CircuitStatus struct {
	Upstream  string    `json:"upstream"`
	Authority string    `json:"authority"`
	State     string    `json:"state"`
	Why       string    `json:"why,omitempty"`   // of the newest change
	Since     time.Time `json:"since,omitzero"`  // of the newest change
	Until     time.Time `json:"until,omitzero"`  // when the state ends by itself
	Forced    *Forced   `json:"forced,omitzero"` // by a person
	// PausedUntil is how long the upstream asked, by Retry-After, to be left
	// alone, and PausedBy the process that was told last.
	PausedUntil time.Time `json:"paused_until,omitzero"`
	PausedBy    int       `json:"paused_by,omitempty"`
	Callers     int       `json:"callers"` // processes
	Probes      int       `json:"probes"`  // under way
	// OwnTroubles of single processes, by pid: failures of their resolvers,
	// certificates or descriptors, which open nobody else's circuit.
	OwnTroubles map[int]uint64 `json:"own_troubles,omitempty"`
}

func (a *Agent) circuitStatus() []CircuitStatus {
	at := func(t time.Duration) time.Time {
		if t == 0 {
			return time.Time{}
		}
		return a.since.Add(t - a.boot).Round(0)
	}
	all := []CircuitStatus{}
	for _, c := range a.circuits.all {
		s := CircuitStatus{
			Upstream: c.key.upstream, Authority: c.key.authority, State: c.word.State().String(), Why: c.why,
			Since: at(c.since), Until: at(c.word.Until()), Forced: c.forced, Callers: len(c.callers), Probes: len(c.probes),
		}
		if until := a.control.Pause(c.entry); until > a.now() {
			s.PausedUntil, s.PausedBy = at(until), c.pausedBy
		}
		for p, one := range c.callers {
			if own := one.ownTroubles(); own > 0 {
				if s.OwnTroubles == nil {
					s.OwnTroubles = map[int]uint64{}
				}
				s.OwnTroubles[p.id.pid] = own
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(x, y CircuitStatus) int {
		return cmp.Or(cmp.Compare(x.Upstream, y.Upstream), cmp.Compare(x.Authority, y.Authority))
	})
	return all
}
