//go:build linux

package agent

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// emptyTown is a host whose upstream a has circuits, with so many processes, of
// users 0, 1, 2 in turn.
func emptyTown(t *testing.T, processes int) *town {
	t.Helper()
	next := -1
	w, err := newTown(t.TempDir(), func(n int) int { next++; return next % n }, false)
	for range processes {
		if err == nil {
			err = w.join()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func house(i int) circuitKey { return circuitKey{"a", fmt.Sprintf("http://h%d", i)} }

// However many cells have counted a failure, the agent reads some of them at a
// time and then does other things.
func TestManyCellsAreReadByTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const processes, houses = 6, 400
		w := emptyTown(t, processes)
		for i := range houses {
			for _, c := range w.all {
				w.open(c, house(i))
				w.call(c, house(i), 0, 1)
			}
		}
		looked := func() (n int) {
			for _, c := range w.a.circuits.all {
				if c.looked {
					n++
				}
			}
			return n
		}
		const most = cellsAtOnce/processes + 1
		for turns := 1; turns <= houses/most+1; turns++ {
			before, began := looked(), w.a.now()
			next := w.turn()
			got := looked() - before
			if want := min(most, houses-before); got != want {
				t.Fatalf("turn %d looked at %d circuits, want %d", turns, got, want)
			}
			// In the last turn those come again that were looked at first.
			if want := most * processes * cellRest; w.a.circuits.rest-began != want || next-began != want {
				t.Errorf("after turn %d it rests for %v and comes again after %v, want %v", turns, w.a.circuits.rest-began, next-began, want)
			}
			if w.turn(); looked() != before+got {
				t.Errorf("turn %d: looked at %d circuits while it rests", turns, looked()-before-got)
			}
			time.Sleep(w.a.circuits.rest - w.a.now())
		}
		if n := looked(); n != houses {
			t.Errorf("%d circuits were looked at, want %d", n, houses)
		}
	})
}

// The file for a later agent is not written again at once if writing it took
// long, and the loop comes back for it.
func TestCircuitsFileRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := emptyTown(t, 1)
		w.open(w.all[0], house(0))
		w.turn()
		w.a.circuits.keptRest = w.a.now() + time.Second
		w.call(w.all[0], house(0), 0, 20)
		file := func() string {
			text, err := os.ReadFile(w.a.circuitsFile())
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			return string(text)
		}
		if next := w.turn(); next != w.a.now()+time.Second {
			t.Errorf("the loop comes again in %v, want 1s", next-w.a.now())
		}
		if s := w.a.circuits.all[house(0)].word.State(); s != page.CircuitOpen || strings.Contains(file(), "h0") {
			t.Errorf("%v, and the file says %q", s, file())
		}
		w.pass(time.Second)
		if !strings.Contains(file(), "h0") {
			t.Errorf("a second later the file says %q", file())
		}
	})
}

// Circuits are bounded: in a process's page, for a user, and for the host. What
// is beyond is refused with a reason, and there is room again when others go.
func TestCircuitsAreBounded(t *testing.T) {
	w := emptyTown(t, 15) // five of each user
	ask := func(c *citizen, key circuitKey, reason string) {
		t.Helper()
		if cell := w.a.openCircuit(c.proc, key, w.a.now()); cell.Reason != reason || (cell.Index < 0) != (reason != "") {
			t.Fatalf("%v for a process of user %d: %+v, want %q", key, c.proc.id.uid, cell, reason)
		}
	}
	ask(w.all[0], circuitKey{"a", strings.Repeat("h", maxAuthority+1)}, "the authority's name is too long")
	ask(w.all[0], circuitKey{"none", "http://h"}, "no circuit of the host")
	n := 0
	fill := func(uid, circuits int) (last *citizen) {
		for _, c := range w.all {
			if c.proc.id.uid != uid {
				continue
			}
			for len(c.proc.outcomes) < page.Outcomes && circuits > 0 {
				n, circuits = n+1, circuits-1
				ask(c, house(n), "")
			}
			if last = c; circuits == 0 {
				return last
			}
			ask(c, house(0), "this process's page has no outcome cell left")
		}
		t.Fatalf("%d circuits of user %d have no room", circuits, uid)
		return nil
	}
	for uid := range 3 {
		last := fill(uid, maxCircuitsPerUID)
		ask(last, house(n+1), "this user has begun 1024 circuits already")
		ask(last, house(1), "") // another's
	}
	fourth := w.all[0]
	fourth = &citizen{proc: &process{id: identity{uid: 3}, page: fourth.proc.page}}
	for range 2 {
		for len(fourth.proc.outcomes) < page.Outcomes && len(w.a.circuits.free) > 0 {
			n++
			ask(fourth, house(n), "")
		}
		if len(w.a.circuits.free) > 0 {
			fourth = &citizen{proc: &process{id: identity{uid: 3}, page: fourth.proc.page}}
		}
	}
	ask(fourth, house(n+1), "the host has 4000 circuits already")
	w.a.leaveCircuits(fourth.proc)
	ask(fourth, house(n+1), "")
	if len(w.a.circuits.free)+len(w.a.circuits.all) != page.Circuits {
		t.Errorf("%d entries are free and %d used", len(w.a.circuits.free), len(w.a.circuits.all))
	}
}

// A process that calls one authority more than its page has cells for gets the
// cells of those that it has not called for ten minutes, and is told of each;
// what it calls stays, what fails, and what asked to be left alone. So do a
// user's circuits, and the host's, that no process has called.
func TestCircuitsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := emptyTown(t, 4) // 0 and 3 are of user 0
		c, other := w.all[0], w.all[3]
		said := w.listen(t, c)
		for i := range page.Outcomes {
			w.open(c, house(i))
		}
		w.open(other, house(1))
		w.a.boot += circuitRests - time.Second
		w.call(c, house(2), 1, 0)
		w.call(c, house(3), 0, 1)
		w.a.control.SetPause(w.a.circuits.all[house(4)].entry, w.a.now()+time.Hour)
		if cell := w.a.openCircuit(c.proc, house(page.Outcomes), w.a.now()); cell.Index >= 0 {
			t.Fatalf("before its time: %+v", cell)
		}
		w.a.boot += time.Second
		w.open(c, house(page.Outcomes))
		if w.err != nil {
			t.Fatal(w.err)
		}
		const stay = 3
		if n := len(c.proc.outcomes); n != stay+1 || !c.held(house(2)) || !c.held(house(3)) || !c.held(house(4)) {
			t.Errorf("%d cells are left, want those of what was called, fails, paused, and was asked for", n)
		}
		gone := map[string]bool{}
		for range page.Outcomes - stay {
			m := said()
			if m.Type != wire.Assign || m.Cell.Index != -1 || m.Cell.Reason == "" {
				t.Fatalf("the process is told %+v", m)
			}
			gone[m.Cell.Authority] = true
		}
		if len(gone) != page.Outcomes-stay || gone[house(2).authority] {
			t.Errorf("the process is told of %d", len(gone))
		}
		if n := len(w.a.circuits.all); n != stay+2 || w.a.circuits.all[house(1)] == nil {
			t.Errorf("%d circuits are left, want those of the cells, and the one that another process has", n)
		}

		w.a.circuits.ofUser = len(w.a.circuits.all)
		w.call(other, house(1), 1, 0)
		w.pass(calm + glance) // nobody looks at what has failed any more
		w.a.boot += circuitRests - 3*time.Second
		if cell := w.a.openCircuit(other.proc, house(9), w.a.now()); cell.Index >= 0 {
			t.Fatalf("before its time: %+v", cell)
		}
		w.call(other, house(1), 1, 0)
		w.a.boot += 3 * time.Second
		w.open(other, house(9))
		if w.err != nil || !other.held(house(9)) || !other.held(house(1)) || !c.held(house(4)) || len(w.a.circuits.all) != 3 {
			t.Errorf("%v; %d circuits are left, want the one that was called, the one that paused, and the one that was asked for", w.err, len(w.a.circuits.all))
		}
	})
}

// Others' failures, and their looks at a circuit, do not make a process look as
// if it called; calls of mode proportional do, though none is counted.
func TestCircuitsOfOthersTroubleGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := emptyTown(t, 4)
		c, other := w.all[0], w.all[3]
		w.a.circuits.inPage = 2
		for i := range 2 {
			w.open(c, house(i))
			w.open(other, house(i))
		}
		for range 20 {
			for i := range 2 {
				w.call(other, house(i), 5, 1)
			}
			w.pass(time.Minute)
		}
		w.open(c, house(2))
		if w.err != nil || !c.held(house(2)) {
			t.Errorf("no cell after twenty minutes: %v", w.err)
		}
		w.reload("a", 2)
		w.open(c, house(3)) // one cell is free
		w.pass(circuitRests)
		w.call(c, house(2), 1, 0)
		w.open(c, house(4))
		if w.err != nil || !c.held(house(4)) || !c.held(house(2)) || c.held(house(3)) {
			t.Errorf("%v; of mode proportional, the circuit that was called stays and the other gives way", w.err)
		}
	})
}

// Whoever has many circuits change does not fill the log, nor keep what others'
// do out of it.
func TestCircuitsDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := emptyTown(t, 2)
		var log strings.Builder
		w.a.Logger = slog.New(slog.NewTextHandler(&log, nil))
		for i := range 3 * circuitLines {
			w.open(w.all[0], house(i))
		}
		w.open(w.all[1], house(-1))
		change := func(i int) {
			c := w.a.circuits.all[house(i)]
			c.change(page.CircuitOpen, time.Minute, w.a.now(), "test")
		}
		for i := range 3 * circuitLines {
			change(i)
		}
		change(-1)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != circuitLines+2 || !strings.Contains(lines[circuitLines], "many circuits change") || !strings.Contains(lines[circuitLines+1], "//h-1") {
			t.Errorf("%d changes of one user and one of another: %d lines, the last\n%s", 3*circuitLines, len(lines), strings.Join(lines[max(0, len(lines)-3):], "\n"))
		}
		time.Sleep(quietFor)
		change(0)
		if n := fmt.Sprintf("not_logged_before=%d", 2*circuitLines); !strings.Contains(log.String(), n) {
			t.Errorf("a minute later no line says %s:\n%s", n, log.String()[strings.LastIndexByte(strings.TrimSpace(log.String()), '\n')+1:])
		}
	})
}

// What has come free is not used again soon: who had it may not have heard.
func TestCircuitsComeFreeForLater(t *testing.T) {
	w := emptyTown(t, 1)
	c := w.all[0]
	first := w.a.openCircuit(c.proc, house(0), w.a.now())
	w.a.takeCell(w.a.circuits.all[house(0)], c.proc, "test")
	w.a.dropCircuit(w.a.circuits.all[house(0)])
	second := w.a.openCircuit(c.proc, house(1), w.a.now())
	if second.Index == first.Index || second.Entry == first.Entry {
		t.Errorf("%+v, and right after it came free %+v", first, second)
	}
}

// listen gives a process a connection, and what the agent says on it.
func (w *town) listen(t *testing.T, c *citizen) (next func() *wire.Message) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*wire.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "session")
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = wire.NewConn(conn.(*net.UnixConn), nil, wire.MaxAgentLine, maxQueue)
		t.Cleanup(func() { ends[i].Close() })
	}
	c.proc.session = &session{conn: ends[0], proc: c.proc}
	return func() *wire.Message {
		t.Helper()
		ends[1].SetReadDeadline(time.Now().Add(10 * time.Second))
		m, err := ends[1].Receive()
		if err != nil {
			t.Fatalf("what the agent says: %v", err)
		}
		return m
	}
}

// A file of an earlier agent that is damaged, of another ledger, or senseless
// does no harm.
func TestDamagedCircuitsFile(t *testing.T) {
	for text, want := range map[string]int{
		"":     0,
		"{":    0,
		`null`: 0,
		`{"forced":{"a":null,"b":{"to":"shut"}}}`:                                                                                  0,
		`{"ledger":"other","circuits":[{"upstream":"a","authority":"http://x","until":1}]}`:                                        0,
		`{"ledger":"town","circuits":[{"upstream":"a","authority":"http://x","until":9000000000000000000}]}`:                       0,
		`{"ledger":"town","circuits":[{"upstream":"none","authority":"http://x","until":1},{"upstream":"a","opens":-7,"uid":-1}]}`: 1,
	} {
		w := emptyTown(t, 0)
		w.policy = map[string]policies.CircuitBreaker{"a": {}, "b": {}}
		if err := os.WriteFile(w.a.circuitsFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.start(); err != nil {
			t.Fatal(err)
		}
		if got := len(w.a.circuits.all); got != want || len(w.a.circuits.forced) != 0 {
			t.Errorf("%s: %d circuits and orders %v, want %d and none", text, got, w.a.circuits.forced, want)
		}
		w.bad[circuitKey{"a", ""}] = true
		w.turn()
		w.check()
		if w.err != nil {
			t.Errorf("%s: %v", text, w.err)
		}
	}
}

// However many circuits open and close, what a person ordered is still told of,
// and the newest changes are.
func TestCircuitsDoNotPushOutOrders(t *testing.T) {
	var e events
	e.add(Event{Kind: CircuitForced})
	for range 3 * keptEvents {
		e.add(Event{Kind: CircuitOpened})
		e.add(Event{Kind: CircuitPaused})
	}
	found, _ := e.after(0)
	if found[0].Kind != CircuitForced || len(found) != keptEvents+1 || found[keptEvents].ID != e.last {
		t.Errorf("%d events are kept, the oldest is %+v", len(found), found[0])
	}
}
