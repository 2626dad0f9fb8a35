//go:build linux

package integration

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSlopesStayFlat has a host under mixed load and faults for SOAK (8 s where
// it does not say), and looks at the agent, at two processes to which nothing
// is done, and at the ledger: memory, goroutines and descriptors must not grow.
// The faults are those of TestBulkheadThroughKills; beside it, one upstream is
// sick half of the time, so that retries, budget, circuit and rate limit have
// work. Fitted slopes are printed; see [quantity.judge] for what fails.
func TestSlopesStayFlat(t *testing.T) {
	d := chaosFor
	if s := os.Getenv(soakEnv); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", soakEnv, err)
		}
	}
	random := seeded(t)
	u, mixed := newUpstream(t, random), newUpstream(t, random)
	policy := func(limit int) string {
		return bulkhead(u, limit) + fmt.Sprintf("  mixed:\n    match: [{host: %q}]\n    bulkhead: {max_concurrent: 50}\n    rate_limit: {rate: 300/s, burst: 50, max_wait: 1s}\n", mixed.host())
	}
	h := newHost(t, policy(10))
	c := &chaos{t: t, random: random, u: u, h: h, limit: 10, policy: policy, steady: 2}
	h.start()
	u.allow(c.limit)
	steady := []*worker{h.worker(countEnv + "=1"), h.worker(countEnv + "=1")}
	steady[0].load(u, pathWork, 4)
	steady[1].order(order{URL: mixed.server.URL + pathSick, Load: 4, Pause: 10 * time.Millisecond})
	for range 4 {
		c.add()
	}
	s := newSoak(h, steady)
	every := max(200*time.Millisecond, d/500)
	next := u.now()
	// Each thing happens at least once.
	todo := []func(){c.killAgent, c.killWorker, c.stopWorker, c.changeLimit, c.stopIdle}
	random.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	for end := u.now() + d; (u.now() < end || len(todo) > 0) && !t.Failed() && u.count().excesses == 0; {
		c.breathe()
		switch {
		case len(todo) > 0:
			todo[0]()
			todo = todo[1:]
		case random.IntN(4) == 0:
			// Any fault, but mostly a worker's end: slopes need lives of the agent
			// that last.
			if random.IntN(20) == 0 {
				c.pick()()
			} else {
				c.killWorker()
			}
		}
		if u.now() >= next {
			next = u.now() + every
			mixed.sick.Store(random.IntN(2) == 0)
			s.look(u.now())
		}
	}
	steady[0].mustNotFail()
	for _, w := range append(c.workers, steady...) {
		w.in.Close()
	}
	for _, w := range append(c.workers, steady...) {
		w.finish()
	}
	warm := min(d/4, 30*time.Second)
	for _, q := range s.all() {
		text, grows := q.judge(d, warm)
		t.Log(text)
		if grows {
			t.Errorf("%s grows: more than %v %s in %v, by the lower bound of its slope", q.name, q.tolerance, q.unit, d)
		}
	}
	t.Logf("%d and %d calls; %d workers killed, %d stopped; agent killed %d times; limit changed %d times",
		u.count().calls, mixed.count().calls, c.killed, c.stopped, c.restarts, c.changes)
	noneGranted(h)
}

// soak looks at processes again and again.
type soak struct {
	h      *host
	steady []*worker
	pid    int // of the agent at the last look
	agent  vitals
	others []vitals
	ledger quantity
}

// vitals are what is looked at of one process.
type vitals struct{ memory, goroutines, descriptors quantity }

func newVitals(name string) vitals {
	memory := 8.0 * 1024
	if raceDetector {
		memory *= 8 // its shadow memory grows with what is touched
	}
	return vitals{quantity{name: name + ": RssAnon", unit: "KiB", tolerance: memory},
		quantity{name: name + ": goroutines", tolerance: 10}, quantity{name: name + ": descriptors", tolerance: 10}}
}

func newSoak(h *host, steady []*worker) *soak {
	s := &soak{h: h, steady: steady, agent: newVitals("agent"), ledger: quantity{name: "ledger on disk", unit: "KiB", tolerance: 64}}
	for i := range steady {
		s.others = append(s.others, newVitals(fmt.Sprintf("process %d", i)))
	}
	return s
}

func (s *soak) all() []*quantity {
	out := []*quantity{&s.ledger, &s.agent.memory, &s.agent.goroutines, &s.agent.descriptors}
	for i := range s.others {
		v := &s.others[i]
		out = append(out, &v.memory, &v.goroutines, &v.descriptors)
	}
	return out
}

// look takes one reading of everything.
func (s *soak) look(now time.Duration) {
	if pid := s.h.cmd.Process.Pid; pid != s.pid {
		s.pid = pid
		for _, q := range []*quantity{&s.agent.memory, &s.agent.goroutines, &s.agent.descriptors} {
			q.begin()
		}
	}
	s.agent.look(s.h.t, s.pid, now)
	if _, body, err := s.h.get("/metrics"); err == nil {
		if _, rest, ok := strings.Cut(body, "\nresagent_goroutines "); ok {
			line, _, _ := strings.Cut(rest, "\n")
			n, err := strconv.ParseFloat(line, 64)
			if err != nil {
				s.h.t.Fatalf("resagent_goroutines: %v", err)
			}
			s.agent.goroutines.add(now, n)
		}
	}
	for i, w := range s.steady {
		s.others[i].look(s.h.t, w.cmd.Process.Pid, now)
		if n := w.goroutines.Load(); n > 0 {
			s.others[i].goroutines.add(now, float64(n))
		}
	}
	var st syscall.Stat_t
	if err := syscall.Stat(s.h.path("ledger"), &st); err != nil {
		s.h.t.Fatal(err)
	}
	s.ledger.add(now, float64(st.Blocks)/2)
}

// look reads what the kernel says of a process.
func (v *vitals) look(t *testing.T, pid int, now time.Duration) {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	v.descriptors.add(now, float64(len(fds)))
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if rest, ok := strings.CutPrefix(in.Text(), "RssAnon:"); ok {
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			v.memory.add(now, n)
			return
		}
	}
	t.Fatalf("process %d has no RssAnon", pid)
}
