//go:build linux

package agent

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// picker chooses a number from [0, n).
type picker func(n int) int

// step does one thing that can happen on a host.
func (w *world) step(pick picker) string {
	var a *actor
	if len(w.actors) > 0 {
		a = w.actors[pick(len(w.actors))]
	}
	k := pick(len(kinds))
	what := pick(32)
	w.pick = pick
	if a == nil || len(w.actors) < 2 {
		what = 0
	}
	if w.alloc == nil && what > 0 && pick(3) == 0 {
		what = 17
	}
	if a != nil && a.stopped {
		return w.stepStopped(a)
	}
	switch what {
	case 0:
		if len(w.actors) < 4 {
			a = w.spawn(pick(2))
		}
		w.connect(a)
		w.open(a, k)
		return fmt.Sprintf("process %d of user %d connects", a.id.pid, a.id.uid)
	case 1, 2:
		w.open(a, k)
		return fmt.Sprintf("process %d opens %s", a.id.pid, kinds[k])
	case 3, 4, 5:
		n := 1 + pick(4)
		w.want(a, k, n)
		return fmt.Sprintf("process %d wants %d of %s", a.id.pid, n, kinds[k])
	case 6, 7, 8:
		n := 1 + pick(3)
		ok := w.take(a, k, n)
		return fmt.Sprintf("process %d takes %d of %s: %v", a.id.pid, n, kinds[k], ok)
	case 9, 10, 11:
		if g := &a.gates[k]; len(g.held) > 0 {
			i := pick(len(g.held))
			consume := kinds[k] == wire.RetryBudget && pick(2) == 0
			w.release(a, k, i, consume)
			return fmt.Sprintf("process %d ends one of %s (consumed: %v)", a.id.pid, kinds[k], consume)
		}
		return "nothing to end"
	case 12:
		w.die(a)
		return fmt.Sprintf("process %d is killed", a.id.pid)
	case 13:
		before := w.takeAll(a, k)
		w.disconnect(a)
		after := 0
		if pick(2) == 0 {
			w.connect(a)
			w.want(a, k, 4)
			after = w.takeAll(a, k)
		}
		return fmt.Sprintf("process %d takes %d of %s, loses its connection, and takes %d (attached: %v)", a.id.pid, before, kinds[k], after, a.attached)
	case 14:
		w.hint(a, k)
		w.hint(a, k)
		return fmt.Sprintf("process %d repeats itself", a.id.pid)
	case 15:
		d := []time.Duration{0, 100 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 30 * time.Millisecond, 2 * time.Second}[pick(6)]
		w.pass(d)
		return fmt.Sprintf("%v pass", d)
	case 16:
		permits, rate, burst, budget := 1+pick(4), policies.Rate(1+pick(2))*100, 1+pick(6), 10+pick(3)*10
		switch pick(6) {
		case 0:
			permits = 0
		case 1:
			rate = 0
		case 2:
			budget = 0
		}
		w.reload(policy(permits, rate, burst, budget))
		return fmt.Sprintf("reload: %d permits, %v burst %d, budget %d", permits, rate, burst, budget)
	case 17:
		if w.alloc == nil {
			w.boot()
			return "the agent starts"
		}
		w.kill()
		if pick(4) == 0 {
			w.bootLost()
			return "the agent is killed, and starts without its ledger"
		}
		return "the agent is killed"
	case 18, 29, 30:
		w.fuse = 1 + pick(12)
		return fmt.Sprintf("the agent will be killed within %d stores", w.fuse)
	case 19, 20:
		n := 1 + pick(4)
		w.open(a, k)
		w.want(a, k, n)
		got := w.takeAll(a, k)
		return fmt.Sprintf("process %d wants %d of %s and takes %d", a.id.pid, n, kinds[k], got)
	case 21:
		if pick(4) > 0 {
			return "nothing"
		}
		// Everything at once: the limits go, the ledger is lost, the limits come.
		set := w.set
		w.reload(policy(0, 0, 0, 0))
		w.kill()
		w.bootLost()
		w.pass(recovering)
		w.reload(set)
		w.open(a, k)
		return "the limits go and come back with the ledger lost between"
	case 22, 23:
		return w.stepStops(a, k)
	case 24:
		return w.stepStoppedUnheard(a)
	case 25:
		return w.stepSpendsTwice(a)
	case 26:
		return w.stepLies(a)
	case 27:
		n := w.giveUp(a, k)
		return fmt.Sprintf("%d callers of process %d give %s up", n, a.id.pid, kinds[k])
	case 28:
		w.drainAll()
		return "all drain their queues, and meet: " + w.meet()
	default:
		if kinds[k] == wire.RetryBudget && a.gates[k].bound {
			a.page.Cell(a.gates[k].index).Deposit()
		}
		return fmt.Sprintf("process %d succeeds", a.id.pid)
	}
}

// takeAll takes what a process can have.
func (w *world) takeAll(a *actor, k int) (n int) {
	for w.take(a, k, 1) {
		n++
	}
	return n
}

// run makes steps as long as there is something to pick from, and checks after
// each.
func run(mistake string, steps int, pick picker, log func(...any)) error {
	w := newWorld(policy(1+pick(4), 100, 1+pick(5), 20))
	w.mistake = mistake
	for i := range steps {
		said := w.step(pick)
		log(i, said)
		if err := w.check(); err != nil {
			return fmt.Errorf("after step %d, %q: %w", i, said, err)
		}
	}
	if err := w.checkEnd(); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// Whatever happens in whatever order, wherever the agent is killed: the
// invariants hold.
func TestAnyOrderOfEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		program := rapid.SliceOfN(rapid.SliceOfN(rapid.Uint16(), 10, 10), 1, 150).Draw(t, "program")
		var step []uint16
		pick := func(n int) int {
			if len(step) == 0 {
				return 0
			}
			v := int(step[0])
			step = step[1:]
			return v % n
		}
		w := newWorld(policy(1+int(program[0][0])%4, 100, 1+int(program[0][1])%5, 20))
		for i, one := range program {
			step = one
			said := w.step(pick)
			t.Log(i, said)
			if err := w.check(); err != nil {
				t.Fatalf("after step %d, %q: %v", i, said, err)
			}
		}
		if err := w.checkEnd(); err != nil {
			t.Fatalf("at the end: %v", err)
		}
	})
}

// The same in many orders, most of them long. STEPS says how many steps;
// `make soak` takes a million.
func TestManySteps(t *testing.T) {
	const each = 150
	steps := 15_000
	if s := os.Getenv(stepsEnv); s != "" {
		var err error
		if steps, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s=%q is no number", stepsEnv, s)
		}
	}
	mistake := os.Getenv(plantedEnv)
	for seed := range uint64(max(1, steps/each)) {
		if err := run(mistake, each, rand.New(rand.NewPCG(seed, 0)).IntN, func(...any) {}); err != nil {
			t.Fatalf("with seed %d: %v", seed, err)
		}
	}
}

const (
	stepsEnv   = "STEPS"
	plantedEnv = "RESAGENT_PLANTED"
)
