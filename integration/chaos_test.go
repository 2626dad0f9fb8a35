//go:build linux

package integration

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// chaosFor is how long the test goes on where SOAK does not say.
const chaosFor = 8 * time.Second

// TestBulkheadThroughKills has eight processes (in make soak 32) ask for more than the limit
// while workers are killed and replaced, stopped and continued, the agent is
// killed and restarted, and the limit changes. The limit holds throughout;
// nobody is refused; in the end all is free.
func TestBulkheadThroughKills(t *testing.T) {
	// The long one has as many processes as a busy host.
	clients := 8
	if os.Getenv(soakEnv) != "" {
		clients = 32
	}
	random := seeded(t)
	u := newUpstream(t, random)
	c := &chaos{t: t, random: random, u: u, h: newHost(t, bulkhead(u, 10)), limit: 10}
	c.h.start()
	u.allow(c.limit)
	for range clients {
		c.add()
	}
	// Each thing happens at least once in a short run, the agent's end twice.
	c.storm(c.killAgent, c.killAgent, c.killWorker, c.killWorker, c.stopWorker, c.changeLimit, c.changeLimit, c.stopIdle)
	now := c.finish()
	t.Logf("%d calls, %d abandoned, at most %d in flight; %d workers killed, %d stopped; agent killed %d times; limit changed %d times",
		now.calls, now.abandoned, c.most, c.killed, c.stopped, c.restarts, c.changes)
	arrivals, _ := u.times()
	for i, a := range arrivals[1:] {
		if gap := a - arrivals[i]; gap > 500*time.Millisecond {
			t.Logf("no call for %v from %v on", gap, arrivals[i])
		}
	}
}

// chaos is what the test plays with.
type chaos struct {
	t       *testing.T
	random  *rand.Rand
	u       *upstream
	h       *host
	limit   int
	workers []*worker
	// begin starts a worker in the place of one that ended; nil: [host.worker].
	begin func() *worker
	load  int // calls at a time of each worker; 0: 4 to 11
	// policy is what the host's file says with a limit; nil: [bulkhead].
	policy func(limit int) string
	steady int // further workers, to whom nothing is done

	killed, stopped, restarts, changes int
	most                               int
}

// storm does what is to be done at least once, in any order, and then anything,
// for as long as [soakEnv] says.
func (c *chaos) storm(todo ...func()) {
	c.t.Helper()
	d := chaosFor
	if s := os.Getenv(soakEnv); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			c.t.Fatalf("%s: %v", soakEnv, err)
		}
	}
	c.random.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	for end := time.Now().Add(d); time.Now().Before(end) || len(todo) > 0; todo = todo[1:] {
		c.breathe()
		if len(todo) == 0 {
			todo = append(todo, c.pick())
		}
		began := c.u.now()
		todo[0]()
		if took := c.u.now() - began; took > 2*time.Second {
			c.t.Logf("slow: %v from %v on", took, began)
		}
		now := c.u.count()
		c.most = max(c.most, now.most)
		if c.t.Failed() || now.excesses > 0 {
			return
		}
	}
}

// finish lets all workers end what they began: no call failed, and in the end
// nothing is in flight and all is free.
func (c *chaos) finish() count {
	c.t.Helper()
	for _, w := range c.workers {
		w.in.Close()
	}
	for _, w := range c.workers {
		w.finish()
		w.mustNotFail()
	}
	now := c.u.count()
	if now.inFlight != 0 {
		c.t.Errorf("%d calls in flight with all workers gone", now.inFlight)
	}
	noneGranted(c.h)
	return now
}

// pick chooses what happens next.
func (c *chaos) pick() func() {
	switch n := c.random.IntN(20); {
	case n < 9:
		return c.killWorker
	case n < 13:
		return c.stopWorker
	case n < 16:
		return c.changeLimit
	case n < 18:
		return c.stopIdle
	}
	return c.killAgent
}

func (c *chaos) add() {
	begin := c.begin
	if begin == nil {
		begin = func() *worker { return c.h.worker() }
	}
	w := begin()
	c.burden(w)
	c.workers = append(c.workers, w)
}

// burden has a worker call again and again.
func (c *chaos) burden(w *worker) {
	load := c.load
	if load == 0 {
		load = 4 + c.random.IntN(8)
	}
	w.load(c.u, pathWork, load)
}

// breathe lets some calls through before the next blow. If none get through
// any more, that is the failure.
func (c *chaos) breathe() { c.u.further(c.random.IntN(200)) }

func (c *chaos) killWorker() {
	c.note("kill worker")
	c.endWorker()
	c.add()
}

func (c *chaos) endWorker() {
	c.killed++
	i := c.random.IntN(len(c.workers))
	w := c.workers[i]
	w.kill()
	w.mustNotFail()
	c.workers = append(c.workers[:i], c.workers[i+1:]...)
}

// stopWorker stops a worker that has calls in flight, most often.
func (c *chaos) stopWorker() { c.stop(func() *worker { return c.any() }, func(*worker) {}) }

// stopIdle stops a worker that has nothing to do, and may hold idle permits.
func (c *chaos) stopIdle() {
	c.stop(func() *worker {
		w := c.any()
		w.order(order{}) // an end to its load; what it began goes on
		c.u.further(20)
		return w
	}, c.burden)
}

// stop stops a worker for as long as others make some calls. The agent may die
// meanwhile, and the worker too.
func (c *chaos) stop(choose func() *worker, afterwards func(*worker)) {
	c.stopped++
	c.note("stop worker")
	c.h.sessions(len(c.workers) + c.steady)
	w := choose()
	w.signal(syscall.SIGSTOP)
	c.u.further(c.random.IntN(100))
	if c.random.IntN(4) == 0 {
		c.killAgent()
	}
	if !w.over {
		w.signal(syscall.SIGCONT)
		afterwards(w)
	}
}

func (c *chaos) any() *worker { return c.workers[c.random.IntN(len(c.workers))] }

// killAgent kills the agent and starts another, at once or a moment later,
// well within the grace.
func (c *chaos) killAgent() {
	c.note("kill agent")
	c.restarts++
	// A process that has not heard of the agent yet would be without limits.
	c.h.sessions(len(c.workers) + c.steady)
	c.h.kill()
	pause := time.NewTimer(time.Duration(c.random.Int64N(int64(200 * time.Millisecond))))
	defer pause.Stop()
	<-pause.C
	if c.random.IntN(3) > 0 {
		c.h.start()
		return
	}
	// Nobody is there to see this worker's end.
	c.endWorker()
	c.h.start()
	c.add()
}

// changeLimit reloads with another limit. A higher one is allowed from before
// the reload, a lower one from when what was granted before has ended.
func (c *chaos) changeLimit() { c.setLimit(3 + c.random.IntN(12)) }

func (c *chaos) setLimit(limit int) {
	c.changes++
	c.note("change limit")
	if limit > c.limit {
		c.u.allow(limit)
	}
	if c.policy != nil {
		c.h.reload(c.policy(limit))
	} else {
		c.h.reload(bulkhead(c.u, limit))
	}
	if limit < c.limit {
		// Calls with an earlier permit may still be on their way.
		mark := c.u.now() + 100*time.Millisecond
		c.h.eventually("calls from before the reload have ended", func() bool {
			return c.u.now() > mark && c.u.began(mark) == 0 && c.h.limit("shop", wire.Bulkhead).Granted <= limit
		})
		c.u.allow(limit)
	}
	c.limit = limit
}

func (c *chaos) note(what string) { c.t.Logf("%v %s", c.u.now(), what) }
