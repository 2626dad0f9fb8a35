//go:build linux

package integration

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

const (
	outageWorkers = 20
	outagePause   = 100 * time.Millisecond
	consecutive   = 20 // the default
	openFor       = time.Second
	ramp          = 2 * time.Second
	// reaction is how long the agent may take from the evidence to the opening,
	// and obeying how long until no worker begins a request any more.
	reaction = 25 * time.Millisecond
	obeying  = time.Millisecond
)

const outagePolicies = `version: 1
defaults:
  retry: {disabled: true}
upstreams:
  shop:
    match: [{host: %q}]
    circuit_breaker: {open_for: 1s, max_open_for: 1s, scope: %s}
`

// TestOutage has an upstream of twenty workers die and come back, again and
// again, with the circuit shared by the host and with one in each process. One
// table says what sharing buys. Figures that depend on how fast this machine is
// are asked for in make soak only, which has it for itself.
func TestOutage(t *testing.T) {
	rounds := 1
	soak := os.Getenv(soakEnv) != "" && !raceDetector
	if soak {
		rounds = 100
	}
	host, process := measure(t, "host", rounds), measure(t, "process", min(rounds, 10))
	host.asserted(t, soak)
	process.asserted(t, false)
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\n", row.name, row.of(host), row.of(process))
	}
	table.Flush()
	t.Logf("%d workers, each a call every %v; %d and %d outages\n%s", outageWorkers, outagePause, len(host.rounds), len(process.rounds), text.String())
	if shared, own := host.most(func(r round) int { return r.failing }), process.least(func(r round) int { return r.failing }); shared*3 > own {
		t.Errorf("%d failing calls with one circuit, %d with one in each process: want at most a third", shared, own)
	}
}

// rows are the table's.
var rows = []struct {
	name string
	of   func(*outage) string
}{
	{"CIRCUIT", func(o *outage) string { return "scope: " + o.scope }},
	{"failing calls until all are stopped, median and most", func(o *outage) string {
		return fmt.Sprintf("%d, %d", o.quantile(0.5, func(r round) float64 { return float64(r.failing) }), o.most(func(r round) int { return r.failing }))
	}},
	{"  of these, beyond the 20 and those in flight or begun within 25 ms", func(o *outage) string {
		return o.hosts(func() string { return fmt.Sprint(o.most(func(r round) int { return r.failing - r.allowed })) })
	}},
	{"from death until all are stopped, median", func(o *outage) string { return o.ms(0.5, func(r round) time.Duration { return r.stopped }) }},
	{"from the evidence to the opening, median and p99", func(o *outage) string {
		return o.hosts(func() string {
			f := func(r round) time.Duration { return r.reacted }
			return o.ms(0.5, f) + ", " + o.ms(0.99, f)
		})
	}},
	{"from the opening to the last call begun, median and most", func(o *outage) string {
		return o.hosts(func() string {
			f := func(r round) time.Duration { return r.last }
			return o.ms(0.5, f) + ", " + o.ms(1, f)
		})
	}},
	{"probes at a time, most", func(o *outage) string { return fmt.Sprint(o.most(func(r round) int { return r.together })) }},
	{"probes in a second of outage, median", func(o *outage) string {
		return fmt.Sprintf("%.1f", float64(o.quantile(0.5, func(r round) float64 { return 1000 * r.probes }))/1000)
	}},
	{"first second after the recovery, of the steady load, most", func(o *outage) string { return o.percent(func(r round) float64 { return r.first }) }},
	{"any second after the recovery, most", func(o *outage) string { return o.percent(func(r round) float64 { return r.peak }) }},
	{"from the recovery to 99 % answered, median and most", func(o *outage) string {
		f := func(r round) time.Duration { return r.well }
		return o.ms(0.5, f) + ", " + o.ms(1, f)
	}},
}

// outage is what was measured with one scope.
type outage struct {
	scope  string
	rounds []round
}

// round is one outage.
type round struct {
	failing  int           // calls that failed from death until all are stopped
	allowed  int           // how many may be: the threshold, what is in flight, what begins within reaction
	late     int           // and beyond it, because the agent came later than that
	stopped  time.Duration // from death until the last worker is refused
	reacted  time.Duration // from the evidence to the opening
	last     time.Duration // from the opening to the last call begun
	together int           // probes at a time
	probes   float64       // per second of outage
	steady   float64       // calls in a second before the death
	first    float64       // load of the first second after recovery, of the steady one
	peak     float64       // of any second
	well     time.Duration // from recovery until 99 % are answered
}

// asserted checks what does not depend on the machine's speed, and in a soak
// the times too.
func (o *outage) asserted(t *testing.T, soak bool) {
	t.Helper()
	for i, r := range o.rounds {
		if o.scope == "host" {
			most := r.allowed
			if !soak {
				most += r.late
			}
			if r.failing > most {
				t.Errorf("outage %d: %d failing calls of the host, want at most %d", i, r.failing, most)
			}
			if r.together > 1 {
				t.Errorf("outage %d: %d probes at a time, want 1", i, r.together)
			}
		}
		// Where others use the machine, the steady load may have been too low.
		steady := r.steady
		if !soak {
			steady = outageWorkers * float64(time.Second/outagePause)
		}
		if load := max(r.first, r.peak) * r.steady; load > 1.1*steady {
			t.Errorf("outage %d, scope %s: %.0f calls in a second after the recovery, want at most 1.1 times the steady %.0f", i, o.scope, load, steady)
		}
	}
	if !soak {
		return
	}
	for _, one := range []struct {
		what string
		q    float64
		of   func(round) time.Duration
		most time.Duration
	}{
		{"p99 from the evidence to the opening", 0.99, func(r round) time.Duration { return r.reacted }, reaction},
		{"p99 from the opening to the last call begun", 0.99, func(r round) time.Duration { return r.last }, obeying},
		{"p99 from the recovery to 99 % answered", 0.99, func(r round) time.Duration { return r.well }, openFor + openFor/10 + ramp},
	} {
		if got := time.Duration(o.quantile(one.q, func(r round) float64 { return float64(one.of(r)) })); got > one.most {
			t.Errorf("%s: %v, want at most %v", one.what, got, one.most)
		}
	}
}

func (o *outage) hosts(s func() string) string {
	if o.scope != "host" {
		return "-"
	}
	return s()
}

func (o *outage) most(of func(round) int) int {
	return int(o.quantile(1, func(r round) float64 { return float64(of(r)) }))
}

func (o *outage) least(of func(round) int) int {
	return int(o.quantile(0, func(r round) float64 { return float64(of(r)) }))
}

func (o *outage) quantile(q float64, of func(round) float64) int64 {
	var all []float64
	for _, r := range o.rounds {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return int64(all[max(0, int(math.Ceil(q*float64(len(all))))-1)])
}

func (o *outage) ms(q float64, of func(round) time.Duration) string {
	ns := o.quantile(q, func(r round) float64 { return float64(of(r)) })
	return fmt.Sprintf("%.1f ms", float64(ns)/1e6)
}

func (o *outage) percent(of func(round) float64) string {
	return fmt.Sprintf("%d %%", o.quantile(1, func(r round) float64 { return 100 * of(r) }))
}

// measure makes outages.
func measure(t *testing.T, scope string, rounds int) *outage {
	t.Helper()
	j := newJournal(t)
	h := newHost(t, fmt.Sprintf(outagePolicies, strings.TrimPrefix(j.server.URL, "http://"), scope))
	h.start()
	all := h.workers(outageWorkers, stampEnv+"=1")
	for _, w := range all {
		w.order(order{URL: j.server.URL, Load: 1, Pause: outagePause})
	}
	if scope == "host" {
		h.eventually("called by all", func() bool { return h.circuit().Callers == outageWorkers })
	}
	o := &outage{scope: scope}
	for range rounds {
		o.rounds = append(o.rounds, o.round(h, j, all))
	}
	for _, w := range all {
		w.finish()
	}
	return o
}

// round has the upstream live, die and come back.
func (o *outage) round(h *host, j *journal, all []*worker) (r round) {
	h.t.Helper()
	elapse(2 * time.Second)
	died := monotonic()
	j.dead.Store(true)
	refused := func(since time.Duration) (first []time.Duration) {
		for _, w := range all {
			if at := w.failedSince(since); len(at) > 0 {
				first = append(first, at[0])
			}
		}
		return first
	}
	h.eventually("all are stopped", func() bool { return len(refused(died)) == len(all) })
	stopped := slices.Max(refused(died))
	var opened time.Duration
	if o.scope == "host" {
		opened = h.opened()
		if opened < died {
			h.t.Fatalf("opened %v before the death", died-opened)
		}
	}
	elapse(2*openFor + openFor/2) // probes
	j.dead.Store(false)
	alive := monotonic()
	wellAt := time.Duration(0)
	h.eventually("99 % are answered", func() bool {
		now := monotonic()
		wellAt = j.answered(alive, now, all)
		return wellAt > 0
	})
	elapse(max(0, alive+openFor+ramp+2*time.Second-monotonic()))

	calls := j.since(died - 2*time.Second)
	var steady []call
	for _, c := range calls {
		switch {
		case c.came < died:
			steady = append(steady, c)
		case !c.ok && c.sent <= stopped:
			r.failing++
		}
	}
	r.stopped = stopped - died
	r.well = wellAt - alive
	from, until := stopped, alive // of the outage
	if o.scope == "host" {
		evidence := evident(calls, died)
		r.reacted, r.last = opened-evidence, max(0, lastBegun(calls, opened, opened+openFor/2)-opened)
		r.allowed = consecutive
		for _, c := range calls {
			switch {
			case c.came < died || c.ok:
			case c.sent <= evidence && c.left > evidence, c.sent > evidence && c.sent <= evidence+reaction: // in flight, or begun in time
				r.allowed++
			case c.sent > evidence+reaction && c.sent <= opened+50*time.Millisecond:
				r.late++
			}
		}
		from = opened + openFor/2
	}
	r.together = together(calls, from, until)
	for _, c := range calls {
		if c.sent > from && c.sent < until {
			r.probes++
		}
	}
	r.probes /= (until - from).Seconds()
	r.steady = float64(len(steady)) / 2
	for at := alive; at < monotonic()-time.Second; at += 50 * time.Millisecond {
		n := 0
		for _, c := range calls {
			if c.came >= at && c.came < at+time.Second {
				n++
			}
		}
		r.peak = max(r.peak, float64(n)/r.steady)
		if at == alive {
			r.first = float64(n) / r.steady
		}
	}
	return r
}

// opened is when the agent opened the circuit, on the monotonic clock.
func (h *host) opened() time.Duration {
	h.t.Helper()
	var at time.Time
	h.eventually("open", func() bool {
		c := h.circuit()
		at = c.Since
		return c.State == "open"
	})
	return monotonic() - time.Since(at)
}

// elapse lets time go by in which the workers do what is to be measured.
func elapse(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
