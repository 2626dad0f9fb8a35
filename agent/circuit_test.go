//go:build linux

package agent

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

func breakerSettings() policies.CircuitBreaker {
	return policies.CircuitBreaker{FailureRate: 0.5, MinRequests: 20, ConsecutiveFailures: 20, SlowCallDuration: time.Second, SlowCallRate: 0.5,
		Window: 10 * time.Second, OpenFor: 5 * time.Second, MaxOpenFor: 60 * time.Second, HalfOpenRequests: 1}
}

// callers makes n equal ones.
func callers(n int, e evidence) []evidence {
	all := make([]evidence, n)
	for i := range all {
		all[i] = e
	}
	return all
}

func TestVerdict(t *testing.T) {
	const liar = math.MaxUint32
	well := evidence{good: 100}
	for name, one := range map[string]struct {
		all  []evidence
		want bool
	}{
		"nobody calls":                          {nil, false},
		"all is well":                           {callers(5, well), false},
		"one alone, an unbroken run":            {[]evidence{{run: 20, bad: 20, good: 1000}}, true},
		"one alone, a run too short":            {[]evidence{{run: 19, bad: 19, good: 1000}}, false},
		"one alone, half fail":                  {[]evidence{{run: 1, bad: 10, good: 10}}, true},
		"one alone, too few to say":             {[]evidence{{run: 9, bad: 9, good: 10}}, false},
		"twenty, once each, out of a good past": {callers(20, evidence{run: 1, bad: 1, good: 5000}), true},
		"twenty, of which one fails":            {append(callers(19, well), evidence{run: 5000, bad: 5000}), false},
		"twenty, of which one lies":             {append(callers(19, well), evidence{run: liar, bad: liar}), false},
		"twenty, of which nine fail":            {append(callers(11, well), callers(9, evidence{run: 100, bad: 100})...), false},
		"twenty, of which eleven fail":          {append(callers(9, well), callers(11, evidence{run: 100, bad: 100})...), true},
		"two, of which one fails":               {[]evidence{{run: 100, bad: 100}, well}, false},
		"two, both fail":                        {callers(2, evidence{run: 10, bad: 10}), true},
		"one in ten fails for everybody":        {callers(20, evidence{run: 1, bad: 10, good: 90}), true}, // at this instant 20 in a row
		"one in ten fails, most just succeeded": {append(callers(18, evidence{bad: 10, good: 90}), callers(2, evidence{run: 1, bad: 10, good: 90})...), false},
		"twenty, all slow":                      {callers(20, evidence{good: 10, slow: 5}), true},
		"twenty, of which one is slow":          {append(callers(19, well), evidence{good: 5000, slow: 5000}), false},
		"twenty, of which one lies of slowness": {append(callers(19, well), evidence{good: liar, slow: liar}), false},
		"slow, too few to say":                  {callers(2, evidence{good: 9, slow: 9}), false},
		"all of one user fail, another's not":   {append(callers(5, evidence{uid: 1, run: 50, bad: 50}), callers(3, evidence{uid: 2, good: 50})...), false},
		"both users fail":                       {append(callers(5, evidence{uid: 1, run: 50, bad: 50}), callers(3, evidence{uid: 2, run: 5, bad: 5})...), true},
	} {
		set := breakerSettings()
		if got := verdict(&set, one.all) != ""; got != one.want {
			t.Errorf("%s: opens %v, want %v", name, got, one.want)
		}
	}
}

// Who reads that a circuit opened is told on what evidence.
func TestVerdictSaysWhy(t *testing.T) {
	for want, all := range map[string][]evidence{
		"20 failures in a row, in the one process that calls":                            {{run: 20, bad: 20}},
		"21 failures in a row, in 3 of the 4 processes that call":                        append(callers(3, evidence{run: 7, bad: 7}), well4),
		"50 % of 60 calls in 10s failed, in 3 of the 3 processes that call":              callers(3, evidence{run: 1, good: 10, bad: 10}),
		"60 % of 50 calls in 10s took longer than 1s, in 5 of the 5 processes that call": callers(5, evidence{good: 10, slow: 6}),
	} {
		set := breakerSettings()
		if got := verdict(&set, all); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

var well4 = evidence{good: 1, run: 0}

// Whatever one process of three or more says, it opens nothing for the others
// as long as they see no failure.
func TestOneCallerOpensNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := breakerSettings()
		set.FailureRate = rapid.Float64Range(0.01, 1).Draw(t, "rate")
		set.ConsecutiveFailures = rapid.IntRange(0, 50).Draw(t, "consecutive")
		set.MinRequests = rapid.IntRange(1, 50).Draw(t, "min")
		set.SlowCallRate = rapid.Float64Range(0.01, 1).Draw(t, "slow rate")
		all := []evidence{{slow: rapid.Uint64().Draw(t, "slow"), uid: rapid.IntRange(0, 2).Draw(t, "uid"), good: rapid.Uint64().Draw(t, "good"), bad: rapid.Uint64().Draw(t, "bad"), run: rapid.Uint64().Draw(t, "run")}}
		for range rapid.IntRange(1, 20).Draw(t, "others") {
			all = append(all, evidence{uid: rapid.IntRange(0, 2).Draw(t, "uid"), good: rapid.Uint64Range(0, 1000).Draw(t, "good")})
		}
		if verdict(&set, all) != "" {
			t.Errorf("%+v opened the circuit for %+v", all[0], all[1:])
		}
	})
}

// play is a circuit with callers and a clock.
type play struct {
	t     *testing.T
	c     *circuit
	now   time.Duration
	procs []*process
	words []page.Circuit
}

func newPlay(t *testing.T, n int) *play {
	p := &play{t: t, now: time.Hour}
	p.c = &circuit{set: breakerSettings(), callers: map[*process]*caller{}, show: func(c *circuit) { p.words = append(p.words, c.word) }}
	for i := range n {
		proc := &process{id: identity{pid: i}}
		p.procs = append(p.procs, proc)
		p.c.callers[proc] = &caller{cell: new(page.Outcome), at: p.now}
	}
	return p
}

func (p *play) cell(i int) *page.Outcome { return p.c.callers[p.procs[i]].cell }

// fail has each process see so many failures.
func (p *play) fail(each int) {
	for i := range p.procs {
		for range each {
			if p.cell(i).Bad(p.now) {
				p.c.dirty(p.now)
			}
		}
	}
}

// pass lets time go by, with everything done that becomes due.
func (p *play) pass(d time.Duration) {
	for end := p.now + d; ; {
		if p.c.next == 0 || p.c.next > end {
			p.now = end
			return
		}
		p.now = max(p.now, p.c.next)
		before := p.c.next
		p.c.tick(p.now)
		if p.c.next == before && p.c.next <= p.now && p.c.next != 0 {
			p.t.Fatalf("the circuit asks for the same time again: %v, %v", p.c.next, p.c.word.State())
		}
	}
}

func (p *play) is(want page.State) {
	p.t.Helper()
	if got := p.c.word.State(); got != want {
		p.t.Fatalf("the circuit is %v (%s), want %v", got, p.c.why, want)
	}
}

// The whole life of a circuit.
func TestCircuitLife(t *testing.T) {
	p := newPlay(t, 4)
	p.fail(4)
	p.pass(glance)
	p.is(page.CircuitClosed) // 16 of 20
	p.fail(1)
	p.pass(glance)
	p.is(page.CircuitOpen)
	if n := p.c.ask(p.procs[0], p.now); n != 0 {
		t.Errorf("probe %d of an open circuit", n)
	}
	p.pass(5500 * time.Millisecond)
	p.is(page.CircuitHalfOpen)

	first := p.c.ask(p.procs[0], p.now)
	if first == 0 || p.c.ask(p.procs[1], p.now) != 0 {
		t.Fatal("want one probe at a time")
	}
	p.c.probeEnded(p.procs[1], first, "success", p.now) // not its own
	p.c.probeEnded(p.procs[0], first+1, "success", p.now)
	p.is(page.CircuitHalfOpen)
	p.c.probeEnded(p.procs[0], first, "failure", p.now)
	p.is(page.CircuitOpen)
	if want := "the probe of pid 0 failed; at first: 20 failures in a row, in 4 of the 4 processes that call"; p.c.why != want {
		t.Errorf("it is open because %q, want %q", p.c.why, want)
	}
	if d := p.c.word.Until() - p.now; d < 10*time.Second || d > 11*time.Second {
		t.Errorf("the second opening is for %v, want 10 s and up to a tenth more", d)
	}
	p.pass(11 * time.Second)
	second := p.c.ask(p.procs[1], p.now)
	p.c.probeEnded(p.procs[1], second, "", p.now) // says nothing
	third := p.c.ask(p.procs[2], p.now)
	if third == 0 {
		t.Fatal("no probe after one that came to nothing")
	}
	p.c.probeEnded(p.procs[2], third, "success", p.now)
	p.is(page.CircuitClosing)
	p.pass(page.ClosingTime)
	p.is(page.CircuitClosed)
	p.fail(5)
	p.pass(glance)
	p.is(page.CircuitOpen)
	if d := p.c.word.Until() - p.now; d > 6*time.Second {
		t.Errorf("open for %v after it was well, want 5 s again", d)
	}
	for i := 1; i < len(p.words); i++ {
		if p.words[i].Epoch() == p.words[i-1].Epoch() {
			t.Errorf("change %d has the epoch of the one before", i)
		}
	}
}

func TestProbeThatHangs(t *testing.T) {
	p := newPlay(t, 2)
	p.fail(10)
	p.pass(6 * time.Second)
	p.is(page.CircuitHalfOpen)
	if p.c.ask(p.procs[0], p.now) == 0 {
		t.Fatal("no probe")
	}
	p.pass(probeTime)
	p.is(page.CircuitOpen)
}

// A probe whose outcome went with its session has failed for nobody: another
// is given once its time is over, and not before.
func TestProbeOfALostSession(t *testing.T) {
	p := newPlay(t, 2)
	p.procs[0].session = &session{}
	p.fail(10)
	p.pass(6 * time.Second)
	p.c.ask(p.procs[0], p.now)
	p.procs[0].session = &session{}
	p.pass(probeTime - 1)
	if p.c.ask(p.procs[1], p.now) != 0 {
		t.Error("two probes at a time")
	}
	p.pass(1)
	p.is(page.CircuitHalfOpen)
	if p.c.ask(p.procs[1], p.now) == 0 {
		t.Error("no other probe")
	}
	p.pass(probeTime)
	p.is(page.CircuitOpen)
}

// Who lets a probe come to nothing, by its word or by another session, waits for
// others each time: it could keep the circuit half-open for all.
func TestProbesThatComeToNothingGoRound(t *testing.T) {
	for name, free := range map[string]func(p *play, number uint64){
		"its word": func(p *play, number uint64) {
			p.pass(probeTime - 1)
			p.c.probeEnded(p.procs[0], number, "", p.now)
		},
		"another session": func(p *play, _ uint64) {
			p.procs[0].session = &session{}
			p.pass(probeTime)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t, 2)
			p.fail(10)
			p.pass(6 * time.Second)
			free(p, p.c.ask(p.procs[0], p.now))
			p.is(page.CircuitHalfOpen)
			if p.c.ask(p.procs[0], p.now) != 0 {
				t.Error("it has the next one too, before another asks")
			}
			p.pass(p.c.set.OpenFor / 10)
			if p.c.ask(p.procs[0], p.now) == 0 {
				t.Error("nobody else asks, and it has none")
			}
		})
	}
}

// The death of a process that probes frees its probe at once.
func TestProbeOfTheDead(t *testing.T) {
	p := newPlay(t, 2)
	p.fail(10)
	p.pass(6 * time.Second)
	p.c.ask(p.procs[0], p.now)
	p.c.left(p.procs[0])
	if p.c.ask(p.procs[1], p.now) == 0 {
		t.Error("the probe of a dead process is not given again")
	}
}

// Nobody looks any more a second after the last failure, and the next failure
// is told.
func TestNobodyLooksWhenAllIsQuiet(t *testing.T) {
	p := newPlay(t, 3)
	p.fail(1)
	p.pass(10 * time.Second)
	if p.c.next != 0 {
		t.Errorf("the circuit is looked at again at %v, now is %v", p.c.next, p.now)
	}
	for i := range p.procs {
		if !p.cell(i).Bad(p.now) {
			t.Errorf("process %d does not tell of its next failure", i)
		}
	}
}

// While it closes, the same evidence opens it again; what was counted before
// does not.
func TestClosingForgets(t *testing.T) {
	p := newPlay(t, 4)
	p.fail(5)
	p.pass(6 * time.Second)
	p.c.probeEnded(p.procs[0], p.c.ask(p.procs[0], p.now), "success", p.now)
	p.is(page.CircuitClosing)
	p.fail(1)
	p.pass(glance)
	p.is(page.CircuitClosing)
	p.fail(4)
	p.pass(glance)
	p.is(page.CircuitOpen)
}

// Forced stays until its time, whatever the evidence.
func TestForced(t *testing.T) {
	p := newPlay(t, 4)
	p.c.force(&Forced{To: "closed", By: "root", until: p.now + time.Minute}, p.now)
	p.fail(50)
	p.pass(59 * time.Second)
	p.is(page.CircuitClosed)
	if !p.c.word.Forced() {
		t.Error("the word does not say that it is forced")
	}
	p.pass(2 * time.Second)
	if p.c.word.Forced() {
		t.Error("forced after its time")
	}
	if want := "the order to have it closed has ended: its time is over"; p.c.why != want {
		t.Errorf("why %q, want %q", p.c.why, want)
	}
	p.fail(5)
	p.pass(glance)
	p.is(page.CircuitOpen)
	p.c.force(&Forced{To: "open", By: "root", until: p.now + time.Hour}, p.now)
	p.pass(59 * time.Minute)
	p.is(page.CircuitOpen)
	p.pass(2 * time.Minute)
	p.is(page.CircuitClosed)
}

// Slow calls open the circuit as failures do, also where the agent hears first
// of one and did not look at the successes before; the agent goes to sleep again.
func TestCircuitOpensOnSlowCalls(t *testing.T) {
	p := newPlay(t, 2)
	call := func(slow bool) {
		for i := range p.procs {
			if slow && p.cell(i).Slow() {
				p.c.dirty(p.now)
			}
			p.cell(i).Good(p.now)
		}
	}
	for range 100 { // longer ago than the window
		call(false)
	}
	p.pass(time.Hour)
	call(true)
	p.pass(2 * time.Second)
	p.is(page.CircuitClosed)
	if p.c.next != 0 {
		t.Fatal("nothing is slow any more, and the circuit is still looked at")
	}
	for range 8 { // two callers, 18 of 20
		call(true)
		p.pass(10 * time.Millisecond)
		p.is(page.CircuitClosed)
	}
	call(true)
	p.pass(10 * time.Millisecond)
	p.is(page.CircuitOpen)

	p = newPlay(t, 2)
	p.c.set.SlowCallDuration = 0 // off, whatever older or lying processes count
	for range 100 {
		call(true)
	}
	p.pass(2 * time.Second)
	p.is(page.CircuitClosed)
}

// Counts that jump, wrap, go backwards or lie: one of three processes writes
// anything at all, and the circuit never opens while the others succeed.
func TestCountsAreNotBelieved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPlay(t, 3)
		p.c.callers[p.procs[0]].uid = rapid.IntRange(0, 1).Draw(rt, "uid")
		for range rapid.IntRange(1, 50).Draw(rt, "steps") {
			for range rapid.IntRange(0, 30).Draw(rt, "lies") {
				p.cell(0).Bad(p.now + rapid.SampledFrom([]time.Duration{0, -time.Hour, 100 * time.Hour}).Draw(rt, "when"))
			}
			if rapid.Bool().Draw(rt, "fresh") {
				*p.c.callers[p.procs[0]] = caller{uid: 0, cell: new(page.Outcome), seen: page.Tally{Good: rapid.Uint64().Draw(rt, "g"), Bad: rapid.Uint64().Draw(rt, "b"), Run: rapid.Uint64().Draw(rt, "r")}}
			}
			p.c.dirty(p.now)
			for i := 1; i < 3; i++ {
				p.cell(i).Good(p.now)
			}
			p.pass(time.Duration(rapid.IntRange(0, int(2*time.Second)).Draw(rt, "pass")))
			if p.c.word.State() != page.CircuitClosed {
				rt.Fatalf("one process opened it: %s", p.c.why)
			}
		}
	})
}

// A half-open circuit whose callers have all gone is dropped after a minute,
// and not before: processes of an agent that was restarted come back.
func TestLonelyCircuitIsForgotten(t *testing.T) {
	p := newPlay(t, 1)
	p.fail(20)
	p.pass(glance)
	p.is(page.CircuitOpen)
	p.c.left(p.procs[0])
	p.pass(6 * time.Second)
	p.is(page.CircuitHalfOpen)
	if end := p.c.forgotten(); p.c.next != end || end != p.c.since+lonely {
		t.Errorf("the circuit is looked at in %v, want %v after it became half-open", p.c.next-p.c.since, lonely)
	}
	p.pass(2 * lonely)
	if p.c.next != 0 {
		t.Error("a circuit whose time is over is looked at again")
	}
	p.c.callers[p.procs[0]] = &caller{cell: new(page.Outcome)}
	if p.c.forgotten() != 0 {
		t.Error("a circuit with a caller is to be forgotten")
	}
}
