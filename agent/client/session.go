package client

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	// firstWait bounds how long the first request waits for the first policies.
	firstWait = 250 * time.Millisecond
	// tryEvery is how often a request looks for an agent that was not there.
	tryEvery = 2 * time.Second
	// tryAgain is the same where a socket lies that nobody listens on: an agent
	// has been there, and is likely to be restarting.
	tryAgain = 100 * time.Millisecond
)

// Session is a process's connection to the agent, and the limits it holds.
// The zero value is ready to use; safe for concurrent use; not to be copied.
type Session struct {
	// Socket of the agent. Empty: RESAGENT_SOCKET of the environment, else
	// /run/resagent/agent.sock. Read at the first Attach.
	Socket string
	// Logger hears of each change of mode once. Nil: silent.
	Logger *slog.Logger

	snapshot atomic.Pointer[policies.Snapshot]
	mode     atomic.Pointer[Mode]
	lost     atomic.Pointer[time.Time] // since when; nil: not lost
	patience atomic.Pointer[time.Time] // until when callers hold on
	link     atomic.Pointer[link]      // nil: not connected
	trouble  atomic.Pointer[error]     // why there is no session; nil: there is, or none was tried
	shared   atomic.Pointer[page.Page] // nil: nothing is shared
	lifeline atomic.Pointer[os.File]   // write end of that page's life pipe
	running  atomic.Bool               // a goroutine looks after the connection
	nextTry  atomic.Int64              // time.Duration since epoch
	noCell   atomic.Int64              // the same; when the agent last had none for a circuit, 0: it always had

	trying sync.Mutex // held by the request that dials

	mu       sync.Mutex
	limits   map[string]*Limits
	circuits map[circuitKey]*Circuit
	outcomes [page.Outcomes]*Circuit
	cells    [page.Cells]*gate
	value    any
	first    chan struct{} // closed at the first policies, or when there will be none
	// firstUntil is how long requests wait for that.
	firstUntil time.Time

	stop   chan struct{} // closed by Close
	kick   chan struct{} // a caller has begun to wait
	closed bool
	keep   keep
}

// keep is what the session's own goroutine has; nobody else touches it.
type keep struct {
	page   *page.Page
	file   *os.File // of the page
	life   life
	ledger string // that filled the page
	said   bool   // that memory cannot be shared
}

// life is the pipe whose end tells the agent that the page is no longer used.
// There is one for each page: its read end goes along with every hello, so
// that a hello that comes to nothing ends nothing.
type life struct{ read, write *os.File }

func (l life) close() {
	if l.write != nil {
		l.read.Close()
		l.write.Close()
	}
}

// epoch makes times comparable in an atomic integer.
var epoch = time.Now()

// clock is the time for measuring what passes. It reads one clock, time.Now two.
func clock() time.Time { return epoch.Add(time.Since(epoch)) }

var process Session

// Default is the process's one session: what a transport uses that was given
// no other.
func Default() *Session { return &process }

// Mode says where a session's limits come from.
type Mode string

const (
	Alone    Mode = "alone"    // no agent has been there: local limits
	Attached Mode = "attached" // host-wide limits
	Lost     Mode = "lost"     // the agent went away: what on_agent_loss says
	Policing Mode = "policies" // the agent's policies, with local limits: no memory can be shared here
	Closed   Mode = "closed"   // Close was called
)

// Mode of the session now.
func (s *Session) Mode() Mode {
	if m := s.mode.Load(); m != nil {
		return *m
	}
	return Alone
}

func (s *Session) setMode(m Mode, why error) {
	if old := s.mode.Swap(&m); old != nil && *old == m {
		return
	}
	if s.Logger != nil {
		args := []any{"mode", string(m), "socket", s.path()}
		if why != nil {
			args = append(args, "reason", why.Error())
		}
		s.Logger.Info("resagent session", args...)
	}
}

// Err is why there is no session with the agent: it is not there, or refused
// one. Nil: there is one, or none was tried, or Close was called.
func (s *Session) Err() error {
	if err := s.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Session) path() string {
	if s.Socket != "" {
		return s.Socket
	}
	return wire.Socket()
}

// Policies is the agent's newest snapshot, nil as long as no agent has sent
// one. One atomic load. It stays when the agent is lost.
func (s *Session) Policies() *policies.Snapshot { return s.snapshot.Load() }

// Attach makes the session if the agent is there. It is cheap where there is
// nothing to do, and meant to be called for every request. Where the agent's
// socket accepts, the first callers wait for the first policies, at most
// 250 ms and as long as ctx allows; where it is absent nobody waits, and it is
// looked for again at most every 2 s.
func (s *Session) Attach(ctx context.Context) {
	if s.snapshot.Load() == nil {
		s.AttachAt(ctx, time.Now())
	}
}

// AttachAt is Attach for a caller that has just read the clock. It says whether
// that may have taken time.
func (s *Session) AttachAt(ctx context.Context, now time.Time) (took bool) {
	if s.snapshot.Load() != nil || !s.running.Load() && int64(now.Sub(epoch)) < s.nextTry.Load() {
		return false
	}
	s.attach(ctx, now)
	return true
}

func (s *Session) attach(ctx context.Context, now time.Time) {
	if !s.running.Load() && !s.try(now) {
		return
	}
	s.mu.Lock()
	first, left := s.first, time.Until(s.firstUntil)
	s.mu.Unlock()
	if first == nil || left <= 0 {
		return
	}
	select {
	case <-first:
		return
	default:
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-first:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// try looks for the agent, once in tryEvery for the whole process. Requests
// that come while one of them is looking wait for what it finds.
func (s *Session) try(now time.Time) bool {
	if int64(now.Sub(epoch)) < s.nextTry.Load() {
		return s.running.Load()
	}
	s.trying.Lock()
	defer s.trying.Unlock()
	if int64(time.Since(epoch)) < s.nextTry.Load() {
		return s.running.Load()
	}
	pause := tryEvery
	defer func() { s.nextTry.Store(int64(time.Since(epoch) + pause)) }()
	conn, err := dial(s.path())
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			pause = tryAgain
		}
		s.trouble.Store(&err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.running.Load() {
		conn.Close()
		return s.running.Load()
	}
	s.first, s.stop, s.kick = make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	s.firstUntil = time.Now().Add(firstWait)
	s.running.Store(true)
	go s.run(conn)
	return true
}

// Limits of the upstream called name, under its resolved policy p. The first
// call makes them; later ones return the same pointer, with p in force. To be
// called once per upstream and snapshot, not per request.
func (s *Session) Limits(name string, p *policies.Policy) *Limits {
	s.mu.Lock()
	l := s.limits[name]
	if l == nil {
		if s.limits == nil {
			s.limits = make(map[string]*Limits)
		}
		l = newLimits(s, name)
		s.limits[name] = l
	}
	s.mu.Unlock()
	l.configure(p)
	return l
}

// Shared keeps one value for all who use the session: what make returned to
// the first caller.
func (s *Session) Shared(make func() any) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.value == nil {
		s.value = make()
	}
	return s.value
}

// Close says goodbye to the agent and ends the session's goroutine. The
// limits go on as the process's own.
func (s *Session) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	stop := s.stop
	s.mu.Unlock()
	if stop != nil {
		close(stop)
	}
	if l := s.link.Load(); l != nil {
		l.conn.Send(&wire.Message{Type: wire.Bye})
		l.conn.SetReadDeadline(time.Now())
	}
	return nil
}

// all returns the limits there are now.
func (s *Session) all() []*Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Limits, 0, len(s.limits))
	for _, l := range s.limits {
		all = append(all, l)
	}
	return all
}

// hosting: limits of host scope belong into the shared page.
func (s *Session) hosting() bool { return s.shared.Load() != nil }

// lostSince tells since when the agent is away.
func (s *Session) lostSince() (time.Time, bool) {
	if t := s.lost.Load(); t != nil {
		return *t, true
	}
	return time.Time{}, false
}

// holdOn is how much longer callers wait beyond their time: the agent is
// expected, or has just come and is still counting.
func (s *Session) holdOn(now time.Time) time.Duration {
	if t := s.patience.Load(); t != nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// hint sends a message about one cell, if there is anybody to read it.
func (s *Session) hint(t wire.Type, cell int) bool {
	l := s.link.Load()
	return l != nil && l.conn.SendHint(t, cell) == nil
}

// open asks for the cell of a gate.
func (s *Session) open(g *gate) {
	if l := s.link.Load(); l != nil {
		l.conn.Send(&wire.Message{Type: wire.Open, Cell: &wire.Cell{Upstream: g.name, Kind: g.kind}})
	}
}

// hurry has a lost agent looked for sooner: a caller waits.
func (s *Session) hurry() {
	if s == nil || s.lost.Load() == nil {
		return
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// between draws evenly from [low, high).
func between(low, high time.Duration) time.Duration { return low + rand.N(high-low) }

func dial(path string) (*net.UnixConn, error) {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}
