//go:build linux

package agent

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

// joined makes a process with an open cell of the kind.
func joined(w *world, uid, kind int) *actor {
	a := w.spawn(uid)
	w.connect(a)
	w.open(a, kind)
	return a
}

func ok(t *testing.T, w *world) {
	t.Helper()
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
}

// spend uses up to n tokens, and says how many there were.
func spend(w *world, a *actor, n int) (got int) {
	w.want(a, 1, n)
	for range n {
		if w.take(a, 1, 1) {
			got++
		}
	}
	return got
}

// Tokens spent just before a process comes back, or ends, are not there again
// in the same moment.
func TestSpentTokensAreNotGrantedAgain(t *testing.T) {
	for name, event := range map[string]func(w *world, a *actor){
		"reconnect":       func(w *world, a *actor) { w.disconnect(a); w.connect(a) },
		"takeover":        func(w *world, a *actor) { w.connect(a) },
		"death":           func(w *world, a *actor) { w.die(a); w.pass(settle) },
		"agent's restart": func(w *world, a *actor) { w.kill(); w.boot(); w.connect(a) },
		"late return":     func(w *world, a *actor) { w.kill(); w.boot(); w.pass(time.Hour); w.connect(a) },
		"death meanwhile": func(w *world, a *actor) { w.kill(); w.die(a); w.boot(); w.pass(settle) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(policy(0, 1, 10, 0)) // one a second, burst 10
			a, b := joined(w, 1, 1), joined(w, 2, 1)
			w.want(a, 1, 10) // ten tokens lie in a's cell
			w.pass(time.Hour)
			if got := spend(w, a, 10); got != 10 {
				t.Fatalf("%d of a burst of 10", got)
			}
			spentAt := w.now
			event(w, a)
			w.connect(b)
			got := spend(w, b, 10)
			if most := int((w.now - spentAt) / time.Second); got > min(most, 10) {
				t.Errorf("%d tokens %v after all ten were spent, want at most %d", got, w.now-spentAt, most)
			}
		})
	}
}

// A bucket is full to the nanosecond, or the only token of a burst of one is
// never whole (the ledger counts in larger units, and looking takes time).
func TestBurstOfOne(t *testing.T) {
	const perSecond = 200
	w := newWorld(policy(0, perSecond, 1, 0))
	w.alloc.clock = func() time.Duration { return w.now + 7*time.Microsecond }
	a := w.spawn(1)
	w.connect(a)
	w.open(a, 1)
	w.want(a, 1, 1)
	got := 0
	for end := w.now + time.Second; w.now < end; w.pass(time.Millisecond + 7) { // as timers come
		if w.take(a, 1, 1) {
			got++
			w.want(a, 1, 1)
		}
	}
	if got < perSecond*4/5 || got > perSecond+1 {
		t.Errorf("%d tokens in a second, want %d, less the millisecond by which each may be late", got, perSecond)
	}
}

// A lowered burst holds for what lies in cells too.
func TestLoweredBurst(t *testing.T) {
	w := newWorld(policy(0, 1, 10, 0))
	a, b := joined(w, 1, 1), joined(w, 2, 1)
	w.want(a, 1, 5)
	w.want(b, 1, 5)
	w.reload(policy(0, 1, 3, 0))
	if got := spend(w, a, 5) + spend(w, b, 5); got != 3 {
		t.Errorf("%d tokens spent at once after the burst was lowered to 3", got)
	}
}

// A cell that is used again has an epoch that no permit of an earlier use
// has, whichever agent opened it.
func TestEpochsRiseAcrossAgents(t *testing.T) {
	w := newWorld(policy(3, 0, 0, 0))
	a := joined(w, 1, 0)
	w.want(a, 0, 2)
	for range 2 {
		if !w.take(a, 0, 1) {
			t.Fatal("a permit was not granted")
		}
	}
	first := a.gates[0].epoch
	// The cell is left, with both in use, and a new agent has it in no ledger.
	w.kill()
	w.lose(a, 0)
	w.bootLost()
	w.connect(a)
	w.open(a, 0)
	if g := a.gates[0]; g.index == 0 && g.epoch <= first {
		t.Fatalf("cell 0 is of epoch %d again", g.epoch)
	}
	w.pass(recovering)
	w.want(a, 0, 1)
	if !w.take(a, 0, 1) {
		t.Fatal("the third permit was not granted")
	}
	w.release(a, 0, 0, false) // one of the first cell's
	if word := a.page.Cell(a.gates[0].index).Read(); word.InUse != 1 {
		t.Errorf("an old permit's end left %+v, want one in use", word)
	}
	ok(t, w)
}

// A page of a lost ledger is believed as it is at one moment, while its
// process goes on using it.
func TestBelievingABusyPage(t *testing.T) {
	w := newWorld(policy(4, 0, 0, 0))
	w.bootLost()
	w.alloc.recoverUntil = 0 // late: what is available is seized
	for i := range 200 {
		p, f, err := page.New()
		if err != nil {
			t.Fatal(err)
		}
		c := p.Cell(0)
		c.Open(1)
		c.SetTarget(1, 4)
		c.Grant(1, 4)
		proc, err := w.alloc.addProcess(identity{pid: i, start: 1, ino: p.Inode()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if proc.page, err = page.Map(f); err != nil {
			t.Fatal(err)
		}
		stop, busy := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			close(busy)
			for {
				select {
				case <-stop:
					return
				default:
					if c.Acquire(1, 1) {
						c.Release(1, 1)
					}
				}
			}
		})
		<-busy
		w.alloc.takeIn(proc, []wire.Cell{{Upstream: "u", Kind: wire.Bulkhead, Index: 0, Epoch: 1}}, w.now)
		h := proc.holders[0]
		if word := c.Read(); h == nil || word.Available+word.InUse > h.granted {
			t.Fatalf("the cell has %+v, the ledger %+v", word, h)
		}
		close(stop)
		wg.Wait()
		w.alloc.die(proc)
		w.alloc.bury(proc, w.now)
		f.Close()
	}
}

// What lies ready for a caller may be taken by another: the limit stays
// watched until nobody waits.
func TestWatchedWhileAnyoneWaits(t *testing.T) {
	for _, kind := range []int{0, 1} {
		w := newWorld(policy(2, 10, 2, 0))
		a := joined(w, 1, kind)
		w.want(a, kind, 1) // granted, not yet taken
		if len(w.alloc.hot) != 1 {
			t.Errorf("%s: nobody looks again, and a caller waits", kinds[kind])
		}
		if !w.take(a, kind, 1) {
			t.Errorf("%s: nothing was granted", kinds[kind])
		}
		w.pass(2 * lookAgain)
		w.pass(2 * lookAgain)
		if len(w.alloc.hot) != 0 {
			t.Errorf("%s: the agent looks on, and nobody waits", kinds[kind])
		}
	}
}

// A process that is stopped between a release and its next look keeps nothing
// from others: not even what its own caller waits for.
func TestStoppedBeforeItTakes(t *testing.T) {
	w := newWorld(policy(2, 0, 0, 0))
	a, b := joined(w, 1, 0), joined(w, 1, 0)
	w.want(a, 0, 1)
	w.take(a, 0, 1)
	w.want(b, 0, 1)
	w.take(b, 0, 1)
	w.want(a, 0, 1)
	w.want(b, 0, 1)
	g := &a.gates[0]
	a.page.Cell(g.index).Release(g.epoch, 1) // and stops here, with a caller waiting
	g.held = nil
	for began := w.now; ; w.pass(lookAgain) {
		if w.take(b, 0, 1) {
			break
		}
		if w.now-began > 20*time.Millisecond {
			t.Fatalf("after %v the permit still lies idle with a process that does not run", w.now-began)
		}
	}
	ok(t, w)
	w.take(a, 0, 0) // it goes on: its wake-up is seen, and its caller waits
	w.release(b, 0, 0, false)
	w.hint(a, 0)
	for range 5 {
		w.pass(lookAgain)
	}
	if !w.take(a, 0, 1) {
		t.Error("its caller has nothing when it goes on")
	}
}

// Of the state of a rate nothing can be said wrong that stops it for ever.
func TestDamagedRateComesBack(t *testing.T) {
	for _, word := range []uint64{1 << 63, 1<<62 - 1, 1 << 50, ^uint64(0)} {
		w := newWorld(policy(0, 100, 5, 0))
		a := joined(w, 1, 1)
		l := w.alloc.limits[limitKey{"u", wire.RateLimit}]
		w.kill()
		(&ledger{mem: w.mem}).setState(l.slot, word)
		w.boot()
		w.connect(a)
		w.pass(time.Second)
		if got := spend(w, a, 5); got == 0 {
			t.Errorf("with a state of %#x nothing comes within a second", word)
		}
	}
}

// The same word again, late or out of order, changes nothing.
func TestRepeatedMessagesChangeNothing(t *testing.T) {
	w := newWorld(policy(3, 0, 0, 0))
	a, b := joined(w, 1, 0), joined(w, 1, 0)
	w.want(a, 0, 2)
	w.take(a, 0, 2)
	cells := func() []page.Word {
		return []page.Word{a.page.Cell(0).Read(), b.page.Cell(0).Read()}
	}
	before := cells()
	for range 50 {
		w.hint(a, 0)
		w.hint(b, 0)
		w.alloc.lookAt(a.proc, -1, w.now)
		w.alloc.lookAt(a.proc, page.Cells, w.now)
		if c, ok := w.alloc.open(a.proc, limitKey{"u", wire.Bulkhead}, w.now); !ok || c.Index != a.gates[0].index || c.Epoch != a.gates[0].epoch {
			t.Fatalf("a second open gives %+v, %v", c, ok)
		}
	}
	if after := cells(); !slices.Equal(before, after) {
		t.Errorf("cells %+v, before %+v", after, before)
	}
}

// A dead process's permits rest for settle before others have them.
func TestDeadPermitsRest(t *testing.T) {
	w := newWorld(policy(1, 0, 0, 0))
	a, b := joined(w, 1, 0), joined(w, 1, 0)
	w.want(a, 0, 1)
	w.take(a, 0, 1)
	w.want(b, 0, 1)
	w.die(a)
	for end := w.now + settle; w.now < end-time.Millisecond; w.pass(time.Millisecond) {
		if w.take(b, 0, 1) {
			t.Fatalf("granted again %v before the permit had settled", end-w.now)
		}
	}
	w.pass(time.Millisecond)
	if !w.take(b, 0, 1) {
		t.Error("not granted when it had settled")
	}
}

// A page with all cells in use, a name that no policy has, a limit of the
// process: the answer says why.
func TestOpenRefuses(t *testing.T) {
	w := newWorld(policy(1, 0, 0, 0))
	a := w.spawn(1)
	w.connect(a)
	for key, want := range map[limitKey]string{
		{"nobody", wire.Bulkhead}: "no policy of that name",
		{"u", wire.RateLimit}:     "not a limit of the host",
		{"u", "unheard of"}:       "not a limit of the host",
	} {
		if c, ok := w.alloc.open(a.proc, key, w.now); ok || c.Index != -1 || c.Reason != want {
			t.Errorf("%v: %+v, %v; want %q", key, c, ok, want)
		}
	}
	for i := range page.Cells {
		a.proc.holders[i] = &holder{limit: &limit{}, process: a.proc}
	}
	if c, ok := w.alloc.open(a.proc, limitKey{"u", wire.Bulkhead}, w.now); ok || c.Index != -1 || c.Reason == "" {
		t.Errorf("a full page: %+v, %v", c, ok)
	}
}

// A process that says anything at all in its page takes no more than its
// ledger, and does not stop the agent.
func TestLyingPage(t *testing.T) {
	w := newWorld(policy(5, 100, 5, 20))
	a, b := w.spawn(1), w.spawn(2)
	for _, one := range []*actor{a, b} {
		w.connect(one)
		for k := range kinds {
			w.open(one, k)
			w.want(one, k, 2)
		}
	}
	seed := uint64(1)
	for range 3000 {
		seed = check(seed)
		g := a.gates[seed%3]
		c := a.page.Cell(g.index)
		n := int(seed >> 20 & page.Max)
		switch seed >> 8 % 7 {
		case 0:
			c.Open(uint16(seed >> 30))
		case 1:
			c.Grant(g.epoch, n)
		case 2:
			c.SetWaiting(g.epoch, n)
		case 3:
			c.SetTarget(uint16(n), n)
		case 4:
			c.Close(g.epoch)
		case 5:
			c.Open(g.epoch)
		case 6:
			c.Deposit()
		}
		w.hint(a, int(seed%3))
		w.hint(b, int(seed%3))
		w.pass(100 * time.Microsecond)
		for _, l := range w.alloc.limits {
			if l.kind == wire.Bulkhead && l.out() > 5 || l.out() > 20 {
				t.Fatalf("%s: %d are out", l.kind, l.out())
			}
		}
	}
	w.die(a)
	w.pass(settle)
	w.take(b, 0, 1)
	if got := w.alloc.limits[limitKey{"u", wire.Bulkhead}].out(); got > 5 {
		t.Errorf("%d out at the end", got)
	}
}
