//go:build linux

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	beatEvery = 100 * time.Millisecond
	// recovering is how long nothing is granted after an earlier ledger was
	// lost, so that processes can bring their pages.
	recovering = 1500 * time.Millisecond

	maxSessions       = 4096
	maxSessionsPerUID = 256
)

// Agent is the daemon. Its fields are read by Run. Reload may be called while
// it runs, from any goroutine.
type Agent struct {
	// Socket and AdminSocket are the paths to listen at. Socket may be used by
	// everyone who is in its group; changes are made through AdminSocket.
	// An empty AdminSocket: there is none.
	Socket, AdminSocket string
	// Listener and AdminListener, where not nil, are used instead: sockets
	// that systemd opened.
	Listener, AdminListener *net.UnixListener
	// Ledger is the path of the ledger, best on a tmpfs that outlives the
	// agent.
	Ledger string
	// Load reads the policies, at the start and at each reload.
	Load func() (*policies.Snapshot, error)
	// Logger: nil is silent.
	Logger *slog.Logger
	// Ready is called once, when the policies are in force and the agent
	// serves. May be nil.
	Ready func()

	// one reload at a time
	reloading sync.Mutex

	mu         sync.Mutex
	alloc      *allocator
	circuits   circuits
	snapshot   *policies.Snapshot
	line       []byte // the policies message, ready to send
	generation uint64
	sessions   map[*session]struct{}
	greeting   map[*net.UnixConn]struct{} // not sessions yet
	perUID     map[int]int
	scheduled  time.Duration // when the loop looks next; 0: when kicked
	started    time.Time
	down       bool           // no more sessions
	active     sync.WaitGroup // sessions, from admit to leave

	control     *page.Control
	controlFile *os.File
	watch       *watcher
	kick        chan struct{}
	alarm       *alarm // the loop's
	overrides   overrides
	events      events
	history     map[limitKey]*series
	sampled     []*limit // for sample, which runs in one goroutine
	views       []view   // likewise
	refused     string   // why the last reload was; empty: it was not
	samples     samples
	quiet       quiet // what was logged of peers
	refusals    refusals
	askedOnce   sync.Once
	askedTurn   chan chan struct{} // see asked
	since       time.Time          // with boot: the time since boot without a system call
	boot        time.Duration      // at since
	bootID      string             // of the host's boot, by the kernel
}

// now is the time since boot: the same for an agent that comes after.
func (a *Agent) now() time.Duration { return a.boot + time.Since(a.since) }

func (a *Agent) log() *slog.Logger {
	if a.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Logger
}

// Run serves until ctx ends. An error before Ready means that nothing was
// served; processes that were attached to an earlier agent keep what they
// have.
func (a *Agent) Run(ctx context.Context) (err error) {
	snapshot, err := a.Load()
	if err != nil {
		return err
	}
	listeners, err := a.listen()
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			l.close()
		}
	}()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("agent: which boot is this: %w", err)
	}
	a.bootID = string(bytes.TrimSpace(boot))
	if err := a.open(a.startOverrides(snapshot)); err != nil {
		return err
	}
	defer a.shut()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { a.loop(ctx) })
	wg.Go(func() { a.beat(ctx) })
	wg.Go(func() { a.record(ctx) })
	for _, l := range listeners {
		wg.Go(func() {
			if err := l.server.Serve(newBounded(a, l.UnixListener, l.most)); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("agent: serving %s: %w", l.Addr(), err))
			}
		})
	}
	a.sayRoom(openFiles())
	a.log().Info("serving", "socket", listeners[0].Addr().String(), "upstreams", snapshot.Len(), "ledger_lost", a.alloc.ledger.lost)
	a.events.add(Event{Kind: AgentStarted, Text: a.inForce()})
	a.expireOverrides() // and sets the clock for the next
	if a.Ready != nil {
		a.Ready()
	}
	<-ctx.Done()
	err = context.Cause(ctx)
	a.hangUp()
	last, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	for _, l := range listeners {
		l.server.Shutdown(last)
	}
	wg.Wait()
	a.active.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// open makes everything that does not serve yet.
func (a *Agent) open(snapshot *policies.Snapshot) error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return fmt.Errorf("agent: clock: %w", err)
	}
	a.since, a.boot = time.Now(), time.Duration(ts.Nano())
	a.started = a.since
	book, err := openLedger(a.Ledger, a.bootID, a.now())
	if err != nil {
		return err
	}
	a.control, a.controlFile, err = page.NewControl()
	if err == nil {
		a.alarm, err = newAlarm()
	}
	if err == nil {
		a.watch, err = newWatcher()
	}
	if err != nil {
		if a.alarm != nil {
			a.alarm.close()
		}
		book.close()
		return err
	}
	a.kick = make(chan struct{}, 1)
	a.sessions = make(map[*session]struct{})
	a.greeting = make(map[*net.UnixConn]struct{})
	a.perUID = make(map[int]int)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alloc = &allocator{
		ledger: book, policies: snapshot,
		limits: make(map[limitKey]*limit), processes: make(map[identity]*process),
		hot:   make(map[*limit]time.Duration),
		clock: a.now, wake: sendWake, gone: sendGone,
	}
	if book.lost {
		a.alloc.recoverUntil = book.recovery()
		a.events.add(Event{Kind: LedgerLost, Text: "nothing is granted while processes bring their pages back"})
		a.log().Warn("the ledger of an earlier agent is lost: nothing is granted while processes bring their pages back", "for", recovering)
	}
	a.circuits = newCircuits()
	a.snapshot = snapshot
	a.alloc.restore(a.now())
	for id, p := range a.alloc.processes {
		if f, ok := living(id); ok {
			p.pidfd = f
			if a.watch.add(f, true, func() { a.ended(p) }) == nil {
				continue
			}
		}
		a.endLocked(p)
	}
	a.restoreCircuits(a.now())
	return a.publish(snapshot)
}

// shut lets go of what open made. The ledger's file stays.
func (a *Agent) shut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watch.close()
	for _, p := range a.alloc.processes {
		a.watch.remove(p.pidfd)
		a.watch.remove(p.life)
		if p.page != nil {
			p.page.Close()
			p.page = nil
		}
	}
	a.alloc.processes, a.alloc.limits = nil, nil
	if a.circuits.changed {
		a.keepCircuits()
	}
	a.circuits = circuits{}
	a.alloc.ledger.close()
	a.controlFile.Close()
}

// publish puts a snapshot in force and tells everyone. With the lock.
func (a *Agent) publish(s *policies.Snapshot) error {
	a.generation++
	line, err := json.Marshal(&wire.Message{Type: wire.Policies, Generation: a.generation, Set: s.Set()})
	if err != nil {
		return fmt.Errorf("agent: policies: %w", err)
	}
	before := len(a.line)
	a.snapshot, a.line = s, append(line, '\n')
	a.control.SetGeneration(a.generation)
	for one := range a.sessions {
		one.conn.MaxQueue = maxQueue + before + len(a.line)
		one.conn.SendLine(a.line)
	}
	a.alloc.setPolicies(s, a.now())
	a.circuitPolicies(s)
	a.rouseLoop()
	return nil
}

// loop looks again at limits that somebody waits on.
func (a *Agent) loop(ctx context.Context) {
	defer a.alarm.close()
	var turned chan struct{}
	for {
		a.mu.Lock()
		now := a.now()
		next := a.alloc.tick(now)
		if c := a.tickCircuits(now); c > 0 && (next == 0 || c < next) {
			next = c
		}
		a.scheduled = next
		a.mu.Unlock()
		if turned != nil {
			close(turned)
			turned = nil
		}
		wait := time.Hour
		if next > 0 {
			wait = max(next-now, 50*time.Microsecond)
		}
		a.alarm.set(wait)
		select {
		case <-ctx.Done():
			return
		case <-a.kick:
		case turned = <-a.asked():
		case <-a.alarm.C:
		}
	}
}

// rouseLoop has the loop look at its plan again, if it is later than the
// allocator's. With the lock.
func (a *Agent) rouseLoop() {
	sooner := func(at time.Duration) bool {
		if a.scheduled != 0 && at >= a.scheduled {
			return false
		}
		select {
		case a.kick <- struct{}{}:
		default:
		}
		return true
	}
	for _, at := range a.alloc.hot {
		if sooner(at) {
			return
		}
	}
	for c := range a.circuits.due {
		if sooner(max(c.next, a.circuits.rest)) {
			return
		}
	}
	for _, f := range a.circuits.forced {
		if sooner(f.until) {
			return
		}
	}
	if a.circuits.changed {
		sooner(a.circuits.keptRest)
	}
}

// beat shows processes that the agent lives: not only that it runs, but that
// it gets at its own state.
func (a *Agent) beat(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		a.mu.Lock()
		a.control.Beat()
		now := a.now()
		a.alloc.recovered(now)
		if now-a.alloc.counted >= readTraffic {
			a.alloc.callsNow(now)
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// ended is the watcher's word that a process, or its use of its page, is over.
func (a *Agent) ended(p *process) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endLocked(p)
}

func (a *Agent) endLocked(p *process) {
	if a.alloc.processes[p.id] != p || !a.alloc.die(p) {
		return
	}
	a.leaveCircuits(p)
	time.AfterFunc(settle, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.alloc.processes[p.id] != p {
			return
		}
		a.watch.remove(p.pidfd)
		a.watch.remove(p.life)
		a.alloc.bury(p, a.now())
		a.rouseLoop()
	})
}

// hangUp closes all sessions, and lets no more in.
func (a *Agent) hangUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = true
	a.events.close()
	for s := range a.sessions {
		s.conn.Close()
	}
	for u := range a.greeting {
		u.Close()
	}
}
