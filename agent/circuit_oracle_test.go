//go:build linux

package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/resagent/resagent/agent/page"
)

// slack is how late the agent may read a count, in the model.
const slack = 400 * time.Millisecond

// changed is called at each change of the circuit's word, and says whether
// there may be such a change now.
func (y *yard) changed(c *circuit) {
	was, is := y.before, c.word
	y.before = is
	if is.Epoch() == was.Epoch() || is.Epoch() == 0 {
		y.broken("a change without a new epoch: %d", is.Epoch())
	}
	over := y.forced != nil && y.now >= y.forced.until
	if y.byHand || over && !is.Forced() && is.State() == page.CircuitClosed {
		y.opens, y.good = 0, 0
		if !is.Forced() {
			y.forced = nil
			y.forget()
		}
		return
	}
	if y.forced != nil {
		y.broken("%v, though a person ordered it to be %s until %v", is.State(), y.forced.To, y.forced.until)
		return
	}
	switch from, to := was.State(), is.State(); {
	case to == page.CircuitOpen && (from == page.CircuitClosed || from == page.CircuitClosing):
		if !y.mayOpen() {
			y.broken("opened, without evidence: %s", y.describe())
		}
		y.opened(is)
	case to == page.CircuitOpen && from == page.CircuitHalfOpen:
		if !y.probeFailed(was.Epoch()) {
			y.broken("opened by probes, and none has failed")
		}
		y.opened(is)
	case from == page.CircuitOpen && to == page.CircuitHalfOpen:
		if y.now < was.Until() {
			y.broken("half-open at %v, before %v", y.now, was.Until())
		}
		y.good = 0
	case from == page.CircuitHalfOpen && to == page.CircuitClosing:
		if y.good != y.c.set.HalfOpenRequests {
			y.broken("closed by %d good probes, want %d", y.good, y.c.set.HalfOpenRequests)
		}
		if (y.now + page.ClosingTime - is.Until()).Abs() > time.Microsecond {
			y.broken("closing until %v, now is %v", is.Until(), y.now)
		}
		y.forget()
	case from == page.CircuitClosing && to == page.CircuitClosed:
		if y.now < was.Until() {
			y.broken("closed at %v, before %v", y.now, was.Until())
		}
		y.opens = 0
	default:
		y.broken("from %v to %v", from, to)
	}
}

// opened checks how long it will be open: doubled each time, and up to a tenth
// more.
func (y *yard) opened(is page.Circuit) {
	d := min(y.c.set.OpenFor<<min(y.opens, 10), y.c.set.MaxOpenFor)
	y.opens++
	if got := is.Until() - y.now; got < d-time.Microsecond || got > d+d/10 {
		y.broken("opening %d is for %v, want %v and up to a tenth more", y.opens, got, d)
	}
}

// rules is the evidence as the model has it: one entry for each process that
// calls, the runs of failures, and who fails by the rate of failures or of slow
// calls.
type rules struct {
	runs          []int
	users         map[int]bool // that call, or did lately
	runUsers      map[int]bool
	rateUsers     map[int]bool
	slowUsers     map[int]bool
	runFails      int
	rateFails     int
	slowFails     int
	resting       int
	bad, n, slows []float64
}

const anyNumber = 1 << 40

// enough is the rule on who has to fail.
func (r *rules) enough(failing int, users map[int]bool) bool {
	switch {
	case len(r.runs) == 1 && r.resting == 0:
		return failing == 1
	case len(r.users) > 1 && len(users) < 2:
		return false
	}
	return failing >= 2 && 2*failing >= len(r.runs)
}

func (r *rules) byRun(consecutive int) bool {
	if consecutive == 0 || len(r.runs) == 0 {
		return false
	}
	sorted := slices.Sorted(slices.Values(r.runs))
	median, sum := sorted[(len(sorted)-1)/2], 0
	for _, run := range r.runs {
		sum += min(run, median)
	}
	return sum >= consecutive && r.enough(r.runFails, r.runUsers)
}

// byRate is exact where all counts are.
func (r *rules) byRate(bad []float64, rate float64, least int, failing int, users map[int]bool) bool {
	if len(r.n) == 0 {
		return false
	}
	sorted := slices.Sorted(slices.Values(r.n))
	median, sum, all := sorted[(len(sorted)-1)/2], 0.0, 0.0
	for i, n := range r.n {
		if n > 0 {
			sum += bad[i] * min(1, median/n)
			all += min(n, median)
		}
	}
	return all >= float64(least) && sum >= rate*all && r.enough(failing, users)
}

// evidence gathers what the honest have seen. certain: nothing of it is so near
// to the end of a time that it may count or not.
func (y *yard) evidence() (r rules, certain bool) {
	r.users, r.runUsers, r.rateUsers, r.slowUsers = map[int]bool{}, map[int]bool{}, map[int]bool{}, map[int]bool{}
	window := y.c.set.Window
	certain = true
	for _, w := range y.all {
		if w.liar {
			continue
		}
		quiet := y.now - w.called
		// What is read late counts from then on, up to a window longer.
		for _, end := range []time.Duration{window, remembered} {
			if quiet > end-slack-window/parts && quiet < end+slack+window {
				certain = false
			}
		}
		if quiet < remembered && w.called > 0 {
			r.users[w.uid] = true
		}
		if quiet > window || w.called == 0 {
			r.resting++
			continue
		}
		r.runs = append(r.runs, w.run)
		if w.run > 0 {
			r.runFails++
			r.runUsers[w.uid] = true
		}
		var n, bad, slow float64
		ill, lame := false, false
		for _, b := range w.bursts {
			if y.now-b.at <= window+slack {
				n, bad, slow = n+float64(b.good+b.bad), bad+float64(b.bad), slow+float64(b.slow)
				ill, lame = ill || b.good <= 2*b.bad && b.bad > 0, lame || 3*b.slow >= b.good+b.bad && b.slow > 0
			}
		}
		if y.exact() {
			ill, lame = bad > 0 && bad >= y.c.set.FailureRate*n, slow > 0 && slow >= y.c.set.SlowCallRate*n
		}
		if ill {
			r.rateFails++
			r.rateUsers[w.uid] = true
		}
		if lame {
			r.slowFails++
			r.slowUsers[w.uid] = true
		}
		r.n, r.bad, r.slows = append(r.n, n), append(r.bad, bad), append(r.slows, slow)
	}
	return r, certain
}

// exact says whether all that was counted since the counts were forgotten is
// surely in the window.
func (y *yard) exact() bool { return y.now-y.begun < y.c.set.Window-y.c.set.Window/parts-slack }

func (y *yard) liars() (all []*witness) {
	for _, w := range y.all {
		if w.liar {
			all = append(all, w)
		}
	}
	return all
}

// mayOpen says whether there is evidence, with the worst that liars can say:
// each of them fails without end, or rests, or calls and does not fail.
func (y *yard) mayOpen() bool {
	liars := y.liars()
	for variant := range pow(3, len(liars)) {
		r, certain := y.evidence()
		if !certain {
			return true
		}
		for _, w := range liars {
			how := variant % 3
			variant /= 3
			if how == 0 { // it rests, and did not call lately
				r.resting++
				continue
			}
			r.users[w.uid] = true
			r.runs = append(r.runs, (how-1)*anyNumber)
			if how == 2 {
				r.runFails, r.rateFails, r.slowFails = r.runFails+1, r.rateFails+1, r.slowFails+1
				r.runUsers[w.uid], r.rateUsers[w.uid], r.slowUsers[w.uid] = true, true, true
			}
		}
		if r.byRun(y.c.set.ConsecutiveFailures) || y.mayByRate(&r, len(liars) == 0) {
			return true
		}
	}
	return false
}

// mayByRate is exact where all counts are, and else asks only whether enough
// fail.
func (y *yard) mayByRate(r *rules, honest bool) bool {
	slow := y.c.set.SlowCallDuration > 0
	if honest && y.exact() {
		return y.byRate(r)
	}
	return r.enough(r.rateFails, r.rateUsers) || slow && r.enough(r.slowFails, r.slowUsers)
}

func (y *yard) byRate(r *rules) bool {
	set := &y.c.set
	return r.byRate(r.bad, set.FailureRate, set.MinRequests, r.rateFails, r.rateUsers) ||
		set.SlowCallDuration > 0 && r.byRate(r.slows, set.SlowCallRate, set.MinRequests, r.slowFails, r.slowUsers)
}

// mustBeOpen is asked when the agent has looked, and the circuit is not open.
func (y *yard) mustBeOpen() {
	if y.c.forced != nil || y.now-y.last > calm || len(y.liars()) > 0 {
		return
	}
	r, certain := y.evidence()
	if certain && (r.byRun(y.c.set.ConsecutiveFailures) || y.exact() && y.byRate(&r)) {
		y.broken("looked at and not opened, with evidence: %s", y.describe())
	}
}

// ask is a process's wish for a probe.
func (y *yard) ask(w *witness) {
	number := y.c.ask(w.proc, y.now)
	half := y.c.word.State() == page.CircuitHalfOpen
	under, turn := y.under(), y.now-max(y.c.since, y.freed) < y.c.set.OpenFor/10
	others := slices.ContainsFunc(y.all, func(w *witness) bool { return !w.had })
	switch {
	case number == 0:
		if half && under+y.good < y.c.set.HalfOpenRequests && (!w.had || !turn || !others) {
			y.broken("no probe for process %d, and %d under way", w.proc.id.pid, under)
		}
		return
	case !half:
		y.broken("a probe of a circuit that is %v", y.c.word.State())
	case under+y.good >= y.c.set.HalfOpenRequests:
		y.broken("a probe beside %d under way and %d good ones", under, y.good)
	case w.had && turn && others:
		y.broken("process %d has a probe again before another one has any", w.proc.id.pid)
	}
	if !others && turn {
		for _, w := range y.all {
			w.had = false
		}
	}
	w.had = true
	w.probes = append(w.probes, probed{number: number, epoch: y.c.word.Epoch(), ends: y.now + probeTime})
}

// under is how many probes are under way, of processes that live.
func (y *yard) under() (n int) {
	for _, w := range y.all {
		for _, p := range w.probes {
			if p.epoch == y.c.word.Epoch() {
				n++
			}
		}
	}
	return n
}

// endProbe tells an outcome: of a probe, sometimes one that is over or another
// process's.
func (y *yard) endProbe(w *witness) string {
	outcome := []string{"success", "success", "failure", ""}[y.pick(4)]
	from := y.all[y.pick(len(y.all))]
	if len(w.probes) == 0 {
		return "no probe to end"
	}
	i := y.pick(len(w.probes))
	p := w.probes[i]
	p.outcome = outcome
	if from == w {
		w.probes = slices.Delete(w.probes, i, i+1)
	} else if y.pick(2) > 0 { // most often it is its own
		from = w
		w.probes = slices.Delete(w.probes, i, i+1)
	}
	if from == w && p.epoch == y.c.word.Epoch() {
		y.ended = &p
		switch outcome {
		case "success":
			w.had = false
			y.good++
		case "":
			y.freed = y.now
		}
	}
	y.c.probeEnded(from.proc, p.number, outcome, y.now)
	y.ended = nil
	return fmt.Sprintf("process %d says that probe %d of %d ended in %q", from.proc.id.pid, p.number, w.proc.id.pid, outcome)
}

// probeFailed says whether there is a reason to open a half-open circuit.
func (y *yard) probeFailed(epoch uint64) bool {
	if y.ended != nil {
		return y.ended.outcome == "failure"
	}
	return slices.ContainsFunc(y.all, func(w *witness) bool {
		return slices.ContainsFunc(w.probes, func(p probed) bool { return p.epoch == epoch && y.now >= p.ends })
	})
}

// check is what holds after each step.
func (y *yard) check() {
	c := y.c
	state := c.word.State()
	if (c.forced != nil) != c.word.Forced() {
		y.broken("forced %v, and the word says %v", c.forced != nil, c.word.Forced())
	}
	if y.forced != nil && y.now > y.forced.until+slack {
		y.broken("a person's order stands after its end, %v", y.forced.until)
	}
	if c.next != 0 && c.next < y.now-slack {
		y.broken("what was due at %v is not done", c.next)
	}
	if y.under() > c.set.HalfOpenRequests {
		y.broken("%d probes under way", y.under())
	}
	if state == page.CircuitHalfOpen && c.forced == nil {
		for _, w := range y.all {
			for _, p := range w.probes {
				if p.epoch == c.word.Epoch() && (c.next == 0 || c.next > p.ends) {
					y.broken("nobody comes for the end of a probe")
				}
			}
		}
	}
	if c.forced != nil || state != page.CircuitClosed && state != page.CircuitClosing {
		return
	}
	for _, w := range y.all {
		one := c.callers[w.proc]
		if t := w.cell.Read(); !w.liar && (t.Bad != one.seen.Bad || t.Slow != one.seen.Slow) && (c.next == 0 || c.next > y.now+glance) {
			y.broken("a failure of process %d is not looked at", w.proc.id.pid)
		}
		if e := one.says(y.now, c.set.Window); e.good+e.bad > 1<<40 {
			y.broken("process %d is believed %d calls", w.proc.id.pid, e.good+e.bad)
		}
	}
	if state == page.CircuitClosed && c.next != 0 && y.now-y.last > calm+slack && len(y.liars()) == 0 {
		y.broken("all is quiet since %v, and it is looked at", y.last)
	}
}

func (y *yard) describe() string {
	r, _ := y.evidence()
	return fmt.Sprintf("%+v, %d lie, settings %+v", r, len(y.liars()), y.c.set)
}

func pow(x, n int) int {
	p := 1
	for range n {
		p *= x
	}
	return p
}
