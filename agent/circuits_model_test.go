//go:build linux

package agent

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// town is all that a host has of circuits: an agent without its sockets,
// processes of several users, upstreams of which each has several authorities,
// reloads, orders and restarts. What one circuit may do is yard's matter; here
// it is which there are, whose they are, and that none is lost or mixed up.
type town struct {
	a    *Agent
	pick picker
	dir  string
	err  error

	small   bool // room for few circuits
	entries int  // of the control page

	pids   int
	all    []*citizen
	policy map[string]policies.CircuitBreaker // by upstream; none: no circuit of the host
	orders map[string]ruling
	ended  int // orders that ended and were not taken back
	bad    map[circuitKey]bool
}

type citizen struct {
	proc  *process
	calls map[circuitKey]int           // outcome cells, by what they are for
	last  map[circuitKey]time.Duration // when it got the cell, or called
	away  bool                         // its connection is gone, with what it said last
}

type ruling struct {
	to    string
	until time.Duration
}

var (
	streets = []string{"a", "b", "c"}
	houses  = []string{"http://x", "http://y", "https://x", "http://z:81"}
)

func newTown(dir string, pick picker, small bool) (*town, error) {
	w := &town{pick: pick, dir: dir, small: small, policy: map[string]policies.CircuitBreaker{}, orders: map[string]ruling{}, bad: map[circuitKey]bool{}}
	for _, name := range streets[:2] {
		w.policy[name] = policies.CircuitBreaker{}
	}
	return w, w.start()
}

// start makes an agent after another one, or the first.
func (w *town) start() error {
	control, f, err := page.NewControl()
	if err != nil {
		return err
	}
	f.Close()
	boot, since := time.Hour, time.Now()
	if w.a != nil {
		boot, since = w.a.boot, w.a.since
	}
	w.a = &Agent{boot: boot, since: since, Ledger: filepath.Join(w.dir, "ledger"), control: control, circuits: newCircuits(), alloc: &allocator{ledger: &ledger{id: "town"}}}
	if w.small {
		w.a.circuits.inPage, w.a.circuits.ofUser = 4, 6
		w.a.circuits.free = w.a.circuits.free[:9]
	}
	w.entries = len(w.a.circuits.free)
	if w.a.snapshot, err = w.snapshot(); err != nil {
		return err
	}
	w.a.restoreCircuits(w.a.now())
	return nil
}

func (w *town) snapshot() (*policies.Snapshot, error) {
	set := &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{}}
	for name, breaker := range w.policy {
		set.Upstreams[name] = policies.Policy{Match: []policies.Match{{Host: name}}, CircuitBreaker: &breaker}
	}
	return policies.Compile(set)
}

func (w *town) broken(how string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(how, args...)
	}
}

// turn is one of the agent's loop.
func (w *town) turn() time.Duration { return w.a.tickCircuits(w.a.now()) }

func (w *town) pass(d time.Duration) {
	for end := w.a.now() + d; w.err == nil; {
		next := w.turn()
		if next == 0 || next > end {
			time.Sleep(end - w.a.now())
			w.turn()
			return
		}
		time.Sleep(max(next-w.a.now(), 50*time.Microsecond))
	}
}

func (w *town) join() error {
	p, f, err := page.New()
	if err != nil {
		return err
	}
	f.Close()
	w.pids++
	w.all = append(w.all, &citizen{proc: &process{id: identity{pid: w.pids, uid: w.pick(3)}, page: p}, calls: map[circuitKey]int{}, last: map[circuitKey]time.Duration{}})
	return nil
}

func (w *town) leave(i int) {
	c := w.all[i]
	w.all = slices.Delete(w.all, i, i+1)
	w.a.leaveCircuits(c.proc)
}

// open has a process ask for a cell, and looks at the answer.
func (w *town) open(c *citizen, key circuitKey) {
	had, full := c.held(key), len(c.proc.outcomes) >= w.a.circuits.inPage
	sought := w.seeking(c)
	cell := w.a.openCircuit(c.proc, key, w.a.now())
	w.gaveWay()
	if _, shared := w.policy[key.upstream]; !shared {
		if cell.Index >= 0 || cell.Reason == "" {
			w.broken("a cell of %v, which is not the host's: %+v", key, cell)
		}
		delete(c.calls, key)
		return
	}
	for other, i := range c.calls {
		if i == cell.Index && other != key {
			w.broken("cell %d of %v is given for %v too", i, other, key)
		}
	}
	if cell.Index < 0 && !had && w.small {
		w.noRoom(c, key, full, sought, cell.Reason)
		delete(c.calls, key)
		return
	}
	if cell.Index < 0 || cell.Reason != "" {
		w.broken("no cell of %v: %+v", key, cell)
		return
	}
	c.calls[key] = cell.Index
	if !had {
		c.last[key] = w.a.now()
	}
}

// call counts outcomes of a process's calls.
func (w *town) call(c *citizen, key circuitKey, good, bad int) {
	i, ok := c.calls[key]
	if !ok {
		return
	}
	cell := c.proc.page.Outcome(i)
	if good+bad > 0 {
		c.last[key] = w.a.now()
	}
	if w.policy[key.upstream].Mode == policies.ModeProportional {
		if good+bad > 0 {
			cell.Called(w.a.now())
		}
		return
	}
	for range good {
		cell.Good(w.a.now())
	}
	for range bad {
		w.bad[key] = true
		if cell.Bad(w.a.now()) && !c.away {
			w.a.handleCircuit(&session{proc: c.proc}, &wire.Message{Type: wire.Dirty, Indexes: []int{i}})
		}
	}
}

// back is a process's new connection, to this agent or another.
func (w *town) back(c *citizen) {
	c.away = false
	c.proc.remapped()
	keys := slices.SortedFunc(maps.Keys(c.calls), func(x, y circuitKey) int { return strings.Compare(x.upstream+x.authority, y.upstream+y.authority) })
	clear(c.calls)
	for _, key := range keys {
		w.open(c, key)
	}
}

func (w *town) restart() error {
	if w.a.circuits.changed { // else killed between a change and the file
		w.turn()
	}
	before := w.a
	if w.pick(2) == 0 { // nobody is there for a while
		time.Sleep(time.Duration(w.pick(60)) * time.Second)
	}
	if err := w.start(); err != nil {
		return err
	}
	for key, was := range before.circuits.all {
		is := w.a.circuits.all[key]
		switch s := was.word.State(); {
		case was.forced != nil && was.forced.until > w.a.now() && is != nil && is.forced == nil:
			w.broken("%v was forced before the restart", key)
		case was.forced == nil && (s == page.CircuitOpen || s == page.CircuitHalfOpen) && was.set.Mode != policies.ModeProportional &&
			(is == nil || is.word.State() != page.CircuitOpen || is.word.Until() < was.word.Until() || is.opens != was.opens):
			w.broken("%v was %v until %v before the restart, now %+v", key, s, was.word.Until(), is)
		}
	}
	for _, c := range w.all {
		c.proc.outcomes = nil
		c.away = true
	}
	return nil
}

func (w *town) reload(name string, to int) {
	switch to {
	case 0:
		delete(w.policy, name)
		if _, ok := w.orders[name]; ok {
			delete(w.orders, name)
			w.ended++
		}
	case 1:
		w.policy[name] = policies.CircuitBreaker{}
	case 2:
		w.policy[name] = policies.CircuitBreaker{Mode: policies.ModeProportional}
	}
	s, err := w.snapshot()
	if err != nil {
		w.broken("the policies: %v", err)
		return
	}
	w.a.snapshot = s
	w.a.circuitPolicies(s)
	for _, c := range w.all { // what they are told
		for key := range c.calls {
			if _, shared := w.policy[key.upstream]; !shared {
				delete(c.calls, key)
			}
		}
	}
}

func (w *town) force(name string) {
	to := []string{"open", "closed", "auto", "auto", "auto", "shut"}[w.pick(6)]
	d := time.Duration(1+w.pick(100)) * time.Second
	_, err := w.a.Force(name, Forced{To: to, By: "uid 0", Reason: "test", Until: time.Now().Add(d)})
	_, shared := w.policy[name]
	_, ordered := w.orders[name]
	if want := shared && to != "shut" && (to != "auto" || ordered); want != (err == nil) {
		w.broken("the order to make %s %s (shared %v, ordered %v): %v", name, to, shared, ordered, err)
	}
	switch {
	case err != nil:
	case to == "auto":
		delete(w.orders, name)
	default:
		w.orders[name] = ruling{to, w.a.now() + d}
	}
}

func (w *town) step() (string, error) {
	if len(w.all) == 0 {
		return "the first comes", w.join()
	}
	i := w.pick(len(w.all))
	c, key := w.all[i], circuitKey{streets[w.pick(len(streets))], houses[w.pick(len(houses))]}
	pid := c.proc.id.pid
	switch what := w.pick(20); what {
	case 0:
		if len(w.all) < 6 {
			return "one comes", w.join()
		}
	case 1:
		switch w.pick(10) {
		case 0:
			for len(w.all) > 0 {
				w.leave(0)
			}
			return "all processes end", nil
		case 1, 2, 3:
			w.leave(i)
			return fmt.Sprintf("process %d ends", pid), nil
		}
	case 2:
		w.reload(key.upstream, w.pick(3))
		return fmt.Sprintf("a reload: %s is %+v", key.upstream, w.policy[key.upstream]), nil
	case 3:
		w.force(key.upstream)
		return fmt.Sprintf("an order about %s: now %+v", key.upstream, w.orders[key.upstream]), nil
	case 4:
		if w.pick(3) == 0 {
			return "a restart", w.restart()
		}
		c.away = true
		return fmt.Sprintf("the connection of process %d ends", pid), nil
	case 5, 6:
		w.back(c)
		return fmt.Sprintf("process %d has a new connection", pid), nil
	case 7, 8, 9:
		if !c.away {
			w.open(c, key)
		}
		return fmt.Sprintf("process %d (away %v) asks for %v", pid, c.away, key), nil
	case 10, 11:
		good, bad := w.pick(10), w.pick(30)
		w.call(c, key, good, bad)
		return fmt.Sprintf("process %d (away %v) calls %v: %d good, %d bad", pid, c.away, key, good, bad), nil
	case 12:
		for _, c := range w.all {
			w.call(c, key, 0, 25)
		}
		return fmt.Sprintf("%v fails for all", key), nil
	case 13, 14:
		if number := w.probe(c, key); number > 0 && w.pick(4) > 0 {
			outcome := []string{"success", "success", "failure", ""}[w.pick(4)]
			w.a.handleCircuit(&session{proc: c.proc}, &wire.Message{Type: wire.Probed, Indexes: []int{c.calls[key]}, Generation: number, Reason: outcome})
			return fmt.Sprintf("process %d probes %v: %q", pid, key, outcome), nil
		}
		return fmt.Sprintf("process %d asks for a probe of %v", pid, key), nil
	}
	if w.pick(8) == 0 {
		for _, c := range w.all {
			w.call(c, key, 0, 3)
		}
		for to := range 2 {
			w.reload(key.upstream, 2-to)
			w.pass(glance)
		}
		return key.upstream + " is proportional for a moment", nil
	}
	d := []time.Duration{time.Millisecond, glance, time.Second, 3 * time.Second, 7 * time.Second, 20 * time.Second, 2 * time.Minute, 15 * time.Minute}[w.pick(8)]
	w.pass(d)
	return fmt.Sprintf("%v pass", d), nil
}

func (w *town) probe(c *citizen, key circuitKey) uint64 {
	one := c.proc.outcomes[c.calls[key]]
	if _, ok := c.calls[key]; !ok || one == nil || c.away {
		return 0
	}
	defer w.a.plan(one)
	return one.ask(c.proc, w.a.now())
}

func runTown(dir string, steps int, pick picker, log func(...any)) error {
	w, err := newTown(dir, pick, pick(2) == 0)
	if err != nil {
		return err
	}
	for i := range steps {
		said, err := w.step()
		log(i, w.a.now(), said)
		w.turn()
		if w.told(); w.err == nil {
			w.check()
		}
		if err := errors.Join(err, w.err); err != nil {
			return fmt.Errorf("after step %d, %q: %w", i, said, err)
		}
	}
	return nil
}

// Whatever comes, goes, fails, is ordered, reloaded and restarted: each circuit
// is its own, and none is forgotten. STEPS says how many steps.
func TestCircuitsOfAHost(t *testing.T) {
	const each = 200
	steps := 20_000
	if s := os.Getenv(stepsEnv); s != "" {
		var err error
		if steps, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s=%q is no number", stepsEnv, s)
		}
	}
	for seed := range uint64(max(1, steps/each)) {
		synctest.Test(t, func(t *testing.T) {
			var said []string
			log := func(args ...any) { said = append(said, fmt.Sprintln(args...)) }
			dir := t.TempDir()
			if err := runTown(dir, each, rand.New(rand.NewPCG(seed, 2)).IntN, log); err != nil {
				t.Fatalf("with seed %d: %v\n%s", seed, err, said[max(0, len(said)-25):])
			}
		})
	}
}
