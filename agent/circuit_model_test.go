//go:build linux

package agent

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

// yard is a circuit of the host, its callers, and what the model knows of them.
// Honest ones count through [page.Outcome] as the transport does; liars write
// any words into their cells. The rules in circuit_oracle_test.go say what the
// circuit may do and must do.
type yard struct {
	c    *circuit
	now  time.Duration
	all  []*witness
	pick picker
	err  error // what was broken first

	pids   int
	opens  int           // in a row, as the model counts
	good   int           // probes of this epoch that succeeded
	freed  time.Duration // when one last came to nothing
	before page.Circuit
	begun  time.Duration // when all counts were forgotten last
	last   time.Duration // when a call was last counted
	forced *Forced
	byHand bool    // a person's order is being carried out
	ended  *probed // the outcome that is being told
}

// witness is a process that calls.
type witness struct {
	proc   *process
	uid    int
	cell   *page.Outcome
	liar   bool
	bursts []burst // since the counts were forgotten
	run    int     // failures in a row, since then
	called time.Duration
	probes []probed
	had    bool // a probe of which no success came
}

// burst is what a process counted at one time.
type burst struct {
	at              time.Duration
	good, bad, slow int
}

// probed is a probe that was given.
type probed struct {
	number  uint64
	epoch   uint64
	ends    time.Duration
	outcome string
}

func newYard(pick picker) *yard {
	y := &yard{pick: pick, now: time.Hour}
	y.begun = y.now
	y.c = &circuit{callers: map[*process]*caller{}, show: y.changed, random: func(n int64) int64 { return int64(pick(int(n))) }, set: policies.CircuitBreaker{
		FailureRate: []float64{0.5, 0.6, 0.8}[pick(3)], MinRequests: 5 + pick(16), ConsecutiveFailures: []int{0, 3, 10, 20}[pick(4)],
		SlowCallRate: 0.5, Window: 10 * time.Second, OpenFor: 5 * time.Second, MaxOpenFor: 30 * time.Second, HalfOpenRequests: 1 + pick(3),
	}}
	if pick(3) == 0 {
		y.c.set.SlowCallDuration = time.Second
	}
	for range 1 + pick(5) {
		y.join()
	}
	if pick(3) == 0 { // there was a time when all was well, and nobody looked
		for _, w := range y.all {
			if !w.liar {
				y.count(w, burst{good: 1 + pick(20)})
			}
		}
		y.pass(6*time.Second, false)
	}
	return y
}

func (y *yard) join() *witness {
	y.pids++
	w := &witness{proc: &process{id: identity{pid: y.pids}}, uid: y.pick(2), cell: new(page.Outcome), liar: y.pick(8) == 0}
	one := &caller{uid: w.uid, cell: w.cell}
	one.cell.Clean()
	one.anew(y.now)
	y.c.callers[w.proc] = one
	y.all = append(y.all, w)
	return w
}

func (y *yard) leave(i int) {
	w := y.all[i]
	y.all = append(y.all[:i:i], y.all[i+1:]...)
	y.c.left(w.proc)
	y.last = y.now // what it said may still be looked at
}

// count has a process make calls, in some order.
func (y *yard) count(w *witness, b burst) {
	b.at, w.called, y.last = y.now, y.now, y.now
	slow := b.slow
	for g, f := b.good, b.bad; g+f > 0; {
		if slow > 0 {
			slow--
			if w.cell.Slow() {
				y.c.dirty(y.now)
			}
		}
		if y.pick(g+f) < g {
			g--
			w.cell.Good(y.now)
			w.run = 0
		} else {
			f--
			if w.cell.Bad(y.now) {
				y.c.dirty(y.now)
			}
			w.run++
		}
	}
	w.bursts = append(w.bursts, b)
}

// lie writes anything into a process's cell.
func (y *yard) lie(w *witness) {
	words := (*[8]uint64)(unsafe.Pointer(w.cell))
	for range 1 + y.pick(8) {
		i := y.pick(8)
		words[i] = []uint64{0, 1, words[i] + 7, words[i] - 7, words[i] + 1<<20, 1 << 63, math.MaxUint64, uint64(y.now / (100 * time.Millisecond))}[y.pick(8)]
	}
	if y.pick(2) == 0 {
		y.c.dirty(y.now)
	}
}

// pass lets time go by. Late, the agent gets to nothing meanwhile, and does
// then what is due.
func (y *yard) pass(d time.Duration, late bool) {
	end := y.now + d
	if late {
		y.now = end
	}
	for again := 0; y.err == nil && y.c.next != 0 && y.c.next <= end; again++ {
		if again > 100_000 {
			y.broken("the circuit asks to be looked at for ever, now for %v", y.c.next)
			return
		}
		y.now = max(y.now, y.c.next)
		y.tick()
		if y.c.next != 0 && y.c.next <= y.now {
			y.broken("done at %v, it asks for %v", y.now, y.c.next)
		}
	}
	y.now = end
}

func (y *yard) tick() {
	y.c.tick(y.now)
	if s := y.c.word.State(); s == page.CircuitClosed || s == page.CircuitClosing {
		y.mustBeOpen()
	}
}

func (y *yard) broken(how string, args ...any) {
	if y.err == nil {
		y.err = fmt.Errorf(how, args...)
	}
}

// forget is the end of what was counted, and of whose turn it is.
func (y *yard) forget() {
	y.begun = y.now
	for _, w := range y.all {
		w.bursts, w.run, w.had = nil, 0, false
	}
}

// step does one thing.
func (y *yard) step() string {
	if len(y.all) == 0 {
		y.join()
	}
	i := y.pick(len(y.all))
	w := y.all[i]
	switch what := y.pick(24); what {
	case 0:
		if len(y.all) < 7 {
			w = y.join()
		}
		return fmt.Sprintf("process %d of user %d comes (liar: %v)", w.proc.id.pid, w.uid, w.liar)
	case 1:
		if y.pick(4) == 0 {
			y.leave(i)
			return fmt.Sprintf("process %d ends", w.proc.id.pid)
		}
		return "nothing"
	case 2, 3, 4, 5, 6:
		if w.liar {
			y.lie(w)
			return fmt.Sprintf("process %d lies", w.proc.id.pid)
		}
		b := []burst{{good: 1 + y.pick(30)}, {bad: 1 + y.pick(4)}, {bad: 1 + y.pick(30)}, {good: 10 + y.pick(10), bad: 1 + y.pick(4)}, {good: 4, bad: 4}, {good: 400, bad: 1}}[y.pick(6)]
		b.slow = y.pick(b.good + b.bad + 1) // by an older policy, where no call is slow
		y.count(w, b)
		return fmt.Sprintf("process %d: %d good, %d bad, %d slow", w.proc.id.pid, b.good, b.bad, b.slow)
	case 7, 8:
		draw := func() burst {
			return []burst{{good: 3}, {bad: 1}, {bad: 3}, {bad: 8}, {good: 25, bad: 10}, {good: 1}}[y.pick(6)]
		}
		b, each := draw(), y.pick(3) == 0
		for _, w := range y.all {
			if each {
				b = draw()
			}
			if w.liar {
				y.lie(w)
			} else if y.pick(5) > 0 {
				y.count(w, b)
			}
		}
		return fmt.Sprintf("most processes: %d good, %d bad (or each its own: %v)", b.good, b.bad, each)
	case 9:
		w.cell.Own(y.now)
		w.called = y.now
		return fmt.Sprintf("process %d has a trouble of its own", w.proc.id.pid)
	case 10, 11, 12:
		y.ask(w)
		return fmt.Sprintf("process %d asks for a probe", w.proc.id.pid)
	case 13, 14, 15:
		return y.endProbe(w)
	case 16:
		return y.order()
	default:
		d := []time.Duration{time.Millisecond, glance, 100 * time.Millisecond, time.Second, 3 * time.Second, 6 * time.Second, 11 * time.Second, 70 * time.Second, 12 * time.Minute, max(0, y.c.next-y.now) + time.Millisecond}[y.pick(10)]
		late := d < time.Second && y.pick(3) == 0
		y.pass(d, late)
		return fmt.Sprintf("%v pass (the agent late: %v)", d, late)
	}
}

// order is a person's.
func (y *yard) order() string {
	y.byHand = true
	defer func() { y.byHand = false }()
	if y.c.forced != nil {
		y.c.release(y.now, "test")
		y.forced = nil
		return "a person's order is taken back"
	}
	y.forced = &Forced{To: []string{"open", "closed"}[y.pick(2)], until: y.now + time.Duration(1+y.pick(30))*time.Second}
	y.c.force(y.forced, y.now)
	return "a person orders it to be " + y.forced.To
}

// runYard makes steps, with a check after each.
func runYard(steps int, pick picker, log func(...any)) error {
	y := newYard(pick)
	for i := range steps {
		said := y.step()
		log(i, y.now, said, y.c.word.State())
		if y.check(); y.err != nil {
			return fmt.Errorf("after step %d, %q: %w", i, said, y.err)
		}
	}
	return nil
}

// Whatever is counted, lied, probed and ordered, in whatever order: the circuit
// does what the rules say.
func TestCircuitInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		program := rapid.SliceOfN(rapid.Uint16(), 50, 2000).Draw(t, "program")
		pick := func(n int) int {
			if len(program) == 0 {
				return 0
			}
			v := int(program[0])
			program = program[1:]
			return v % n
		}
		if err := runYard(100, pick, t.Log); err != nil {
			t.Fatal(err)
		}
	})
}

// The same in many orders. STEPS says how many steps.
func TestCircuitManySteps(t *testing.T) {
	const each = 150
	steps := 60_000
	if s := os.Getenv(stepsEnv); s != "" {
		var err error
		if steps, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s=%q is no number", stepsEnv, s)
		}
	}
	for seed := range uint64(max(1, steps/each)) {
		if err := runYard(each, rand.New(rand.NewPCG(seed, 1)).IntN, func(...any) {}); err != nil {
			t.Fatalf("with seed %d: %v", seed, err)
		}
	}
}
