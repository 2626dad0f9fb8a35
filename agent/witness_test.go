//go:build linux

package agent

import (
	"testing"
	"time"

	"github.com/resagent/resagent/agent/page"
)

// good has each process succeed so often.
func (p *play) good(each int) {
	for i := range p.procs {
		for range each {
			p.cell(i).Good(p.now)
		}
	}
}

// ill has one process see so many failures.
func (p *play) ill(i, failures int) {
	for range failures {
		if p.cell(i).Bad(p.now) {
			p.c.dirty(p.now)
		}
	}
}

// A process that calls alone opens nothing for those that rest, for however
// long; they have a cell and may call at any time. It is evidence where nobody
// else has one.
func TestOneAloneOpensNothingForThoseThatRest(t *testing.T) {
	for _, rest := range []time.Duration{0, 11 * time.Second, time.Hour} {
		p := newPlay(t, 3)
		p.good(1)
		p.pass(rest)
		p.ill(0, 1000)
		p.pass(glance)
		p.is(page.CircuitClosed)
		p.c.left(p.procs[1])
		p.c.left(p.procs[2])
		p.pass(glance)
		p.is(page.CircuitOpen)
	}
}

// Two of one user are half of the callers: they open the circuit for their own
// user, and for another one only if it has not called for long.
func TestOneUserOpensNothingForAnother(t *testing.T) {
	for _, one := range []struct {
		uid  int
		rest time.Duration
		want page.State
	}{
		{0, 0, page.CircuitOpen}, // by majority: two of three
		{1, 0, page.CircuitClosed},
		{1, 11 * time.Second, page.CircuitClosed},
		{1, 9 * time.Minute, page.CircuitClosed},
		{1, 11 * time.Minute, page.CircuitOpen},
	} {
		p := newPlay(t, 3)
		p.c.callers[p.procs[2]].uid = one.uid
		p.good(1)
		p.pass(one.rest)
		p.ill(0, 100)
		p.ill(1, 100)
		p.pass(glance)
		if got := p.c.word.State(); got != one.want {
			t.Errorf("two fail, a third of uid %d that called %v ago does not: %v, want %v", one.uid, one.rest, got, one.want)
		}
	}
}

// Successes of a time when nobody looked count: a few failures among many
// calls are no dead upstream, whether the calls are spread or come at once.
func TestSuccessesNobodyLookedAtCount(t *testing.T) {
	for name, quiet := range map[string]func(*play){
		"at once, after an hour without calls": func(p *play) {
			p.pass(time.Hour)
			p.good(15)
		},
		"at once, after a busy hour": func(p *play) {
			for range 60 {
				p.good(100)
				p.pass(time.Minute)
			}
			p.good(15)
		},
		"spread": func(p *play) {
			for range 10 {
				p.good(10)
				p.pass(time.Second)
			}
		},
	} {
		p := newPlay(t, 3)
		p.c.set.ConsecutiveFailures = 0
		for range 20 { // failures two seconds and more apart
			quiet(p)
			p.fail(10)
			p.pass(2 * time.Second)
			if p.c.word.State() != page.CircuitClosed {
				t.Fatalf("%s: opened (%s), but less than half of the calls failed", name, p.c.why)
			}
		}
		// The same with too many failures.
		quiet(p)
		p.fail(200)
		p.pass(glance)
		if p.c.word.State() != page.CircuitOpen {
			t.Errorf("%s: most calls of the window failed, and the circuit is closed", name)
		}
	}
}

// Successes of long ago do not outweigh what fails now.
func TestOldSuccessesDoNotCount(t *testing.T) {
	p := newPlay(t, 2)
	p.c.set.ConsecutiveFailures = 0
	p.good(1000)
	p.pass(time.Hour)
	p.fail(10)
	p.pass(glance)
	p.is(page.CircuitOpen)
}

// A process whose probes fail comes last: another one's probe finds that the
// upstream is well. If no other wants one, it has to wait for a moment only.
func TestProbesGoRound(t *testing.T) {
	p := newPlay(t, 3)
	p.fail(10)
	p.pass(glance)
	p.pass(p.c.word.Until() - p.now + time.Microsecond)
	for i, outcome := range []string{"failure", ""} {
		p.is(page.CircuitHalfOpen)
		n := p.c.ask(p.procs[i], p.now)
		if n == 0 {
			t.Fatalf("no probe for process %d", i)
		}
		p.c.probeEnded(p.procs[i], n, outcome, p.now)
		if outcome == "failure" {
			p.pass(p.c.word.Until() - p.now + time.Microsecond)
		}
	}
	for i := range 2 {
		if n := p.c.ask(p.procs[i], p.now); n != 0 {
			t.Errorf("process %d has a probe before one that had none", i)
		}
	}
	if n := p.c.ask(p.procs[2], p.now); n == 0 {
		t.Error("no probe for the one that had none")
	} else {
		p.c.probeEnded(p.procs[2], n, "", p.now)
	}
	if p.c.ask(p.procs[0], p.now) == 0 {
		t.Error("each had a probe, and none is given any more")
	}

	p = newPlay(t, 2)
	p.fail(10)
	p.pass(6 * time.Second)
	p.c.probeEnded(p.procs[0], p.c.ask(p.procs[0], p.now), "failure", p.now)
	p.pass(11 * time.Second)
	p.is(page.CircuitHalfOpen)
	p.now = p.c.since + p.c.set.OpenFor/10
	if p.c.ask(p.procs[0], p.now) == 0 {
		t.Error("nobody else asks for a probe, and the one that does has none")
	}
}
