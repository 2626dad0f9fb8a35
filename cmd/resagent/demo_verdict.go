package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
	"time"
)

// promise is one line of the demo's result: what was promised, and what was
// counted.
type promise struct {
	Name     string `json:"name"`
	Bound    number `json:"bound"`
	Measured number `json:"measured"`
	Unit     unit   `json:"unit,omitempty"`
	AtLeast  bool   `json:"at_least"` // the bound is a least, not a most
	By       string `json:"counted_by"`
	OK       bool   `json:"ok"`
	Why      string `json:"why"` // where the bound comes from
}

// number is a float64 that JSON says null for if it is not known.
type number float64

func (n number) unknown() bool { return math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) }

// MarshalJSON writes null for what is not known.
func (n number) MarshalJSON() ([]byte, error) {
	if n.unknown() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

type unit string

const (
	counts  unit = ""
	share   unit = "%" // of 1
	ratio   unit = "ratio"
	seconds unit = "s"
)

func (u unit) text(n number) string {
	if n.unknown() {
		return "unknown"
	}
	switch u {
	case share:
		return strconv.FormatFloat(float64(n)*100, 'f', 1, 64) + " %"
	case ratio:
		return strconv.FormatFloat(float64(n), 'f', 4, 64)
	case seconds:
		return time.Duration(float64(n) * float64(time.Second)).Round(time.Millisecond).String()
	}
	return strconv.FormatFloat(float64(n), 'f', -1, 64)
}

// keep judges. What could not be measured is broken.
func (p promise) keep() bool {
	if p.AtLeast {
		return p.Measured >= p.Bound
	}
	return p.Measured <= p.Bound
}

// off is how long a busy machine may keep a process off the processor between
// taking a token and looking at the clock.
const off = 50 * time.Millisecond

// atRate is the most calls in a window at a rate limit: burst + rate x window,
// as far as it can be dated.
func atRate(window time.Duration) number {
	return number(math.Floor(demoBurst + demoRate*(window+off).Seconds()))
}

const (
	byUpstream = "upstream"
	byBoth     = "upstream, workers" // who say when they let a call go
	byPort     = "upstream's port"
	byWorkers  = "workers"
)

// judge holds what was measured to what was promised.
func judge(m measured) []promise {
	var all []promise
	most := func(name string, bound, measured number, u unit, by, why string) {
		p := promise{Name: name, Bound: bound, Measured: measured, Unit: u, By: by, Why: why}
		p.OK = p.keep()
		all = append(all, p)
	}
	least := func(name string, bound, measured number, u unit, by, why string) {
		p := promise{Name: name, Bound: bound, Measured: measured, Unit: u, AtLeast: true, By: by, Why: why}
		p.OK = p.keep()
		all = append(all, p)
	}
	for _, s := range m.Scenes {
		most("catalog, calls at a time: "+s.Name, number(s.Limit), number(s.Most), counts, byUpstream, "bulkhead.max_concurrent")
	}
	for _, s := range m.Scenes {
		if s.Name != sceneOutage {
			bound, why := s.leastUse()
			least("catalog, limit in use: "+s.Name, bound, number(s.Use), share, byUpstream, why)
		}
	}
	window := fmt.Sprintf("rate_limit: burst %d + %v/s x (window + %v by which their dates may be wrong)", demoBurst, demoRate, off)
	most("quotes, calls let go in any 1 s", atRate(time.Second), number(m.QuotesSecond), counts, byBoth, window)
	most("quotes, calls let go in any 100 ms", atRate(100*time.Millisecond), number(m.QuotesTenth), counts, byBoth, window)
	most("new limit: until calls begun before have ended", number((slowest(usualLatency) + 500*time.Millisecond).Seconds()), number(m.Drained), seconds, byUpstream, "the longest call, and 500ms")
	least("killed worker: permits that it held", 1, number(m.PermitsHeld), counts, byUpstream, "else there is nothing to show")
	most("killed worker: until they are all used again", 1, number(m.PermitsBack), seconds, byUpstream, "25ms rest, and the hand-over to others, on a busy machine")
	most("agent's restart: calls not answered by the upstream", 0, number(m.RestartFailed), counts, byWorkers, "on_agent_loss: hold; from the kill to 2s after the restart")
	most("upstream there: calls that failed", 0, number(m.Failed), counts, byWorkers, "refused, error, wrong or fixed answer")
	retries := demoCapacity / demoRetryCost
	most("outage, orders: attempts per request", 1+number(retries)/number(m.Originals), number(m.Attempts)/number(m.Originals), ratio, byPort,
		fmt.Sprintf("retry_budget.capacity %d pays for %d retries of the whole host; %d requests", demoCapacity, retries, m.Originals))
	least("outage, catalog: answered from the stale cache", 1, number(m.StaleCalls)/number(m.CatalogCalls), share, byWorkers,
		fmt.Sprintf("every key was fetched before; %d calls", m.CatalogCalls))
	most("outage, catalog: first failure to last attempt", 1, number(m.Stopped), seconds, byPort, "20 failures in a row, of all workers together, open the circuit of the host")
	most("outage, catalog: probes after that", probes(m.ProbesFor), number(m.Probes), counts, byPort, "one for each worker and opening, if the agent is killed in between")
	bound, why := m.normalWithin()
	most("upstream back: until it answers all workers again", bound, number(m.Normal), seconds, byWorkers, why)
	return all
}

// normalWithin is how soon the upstream is to answer all workers again. Where the
// machine has more to do than it can, probes and the calls after them wait for
// their turn too.
func (m measured) normalWithin() (bound number, why string) {
	within, why := demoMaxOpenFor*11/10+time.Second, "circuit_breaker.max_open_for, its 10 % of jitter, and 1s"
	for _, s := range m.Scenes {
		if s.Name == sceneBack && s.busy() {
			within, why = within+time.Second, why+"; another, "+s.waited()
		}
	}
	return number(within.Seconds()), why
}

// leastUse is how much of the limit is to be in use. Where the machine has more
// to do than it can, a process that has been given a permit waits for its turn.
func (s sceneMeasured) leastUse() (bound number, why string) {
	why = "demand is more than the limit all the time"
	if s.busy() {
		return 0.75, why + "; less than 90 %, " + s.waited()
	}
	return 0.9, why
}

// busy is whether the machine had more to do in the scene than it can.
func (s sceneMeasured) busy() bool { return s.Stalled > 0.5 }

func (s sceneMeasured) waited() string {
	return fmt.Sprintf("for some process waited for a processor for %.0f %% of the time", 100*s.Stalled)
}

// slowest is the longest an upstream of the demo works on a call.
func slowest(latency time.Duration) time.Duration { return latency * 12 / 10 }

// probes is how many of them the workers that live may send in a time: from
// the second opening on, one in max_open_for.
func probes(seconds float64) number {
	if math.IsNaN(seconds) {
		return number(math.NaN())
	}
	return number((demoWorkers - 1) * (1 + math.Floor(seconds/demoMaxOpenFor.Seconds())))
}

// result is the demo's end, as --json prints it.
type result struct {
	Seed     uint64        `json:"seed"`
	Scope    string        `json:"scope"`
	Seconds  number        `json:"seconds"`
	Calls    int           `json:"calls_in_outage"`
	Attempts int           `json:"attempts_in_outage"`
	Scenes   []sceneResult `json:"scenes"`
	Promises []promise     `json:"promises"`
	OK       bool          `json:"ok"`
}

// sceneResult is what the upstream saw of catalog in one scene.
type sceneResult struct {
	Name      string `json:"name"`
	From      number `json:"from"`
	To        number `json:"to"`
	Limit     int    `json:"limit"`
	Most      int    `json:"most"`
	Use       number `json:"use"`
	Abandoned int    `json:"abandoned"`
}

// result reads the tapes.
func (p *play) result(seed uint64, scope string) (result, error) {
	e := evidence{Story: p.story}
	lost := uint64(0)
	for i, a := range p.upstreams {
		e.Upstreams[i] = a.tape.all()
		lost += a.tape.head.Lost.Load()
	}
	for _, a := range p.workers {
		e.Workers = append(e.Workers, a.tape.all())
		lost += a.tape.head.Lost.Load()
	}
	if lost > 0 {
		return result{}, fmt.Errorf("%d records found no place: the tapes are too short for this machine", lost)
	}
	m := measure(e)
	r := result{Seed: seed, Scope: scope, Calls: m.AllCalls, Attempts: m.AllAttempts, Promises: judge(m)}
	for _, s := range m.Scenes {
		r.Seconds = number(s.To)
		r.Scenes = append(r.Scenes, sceneResult{s.Name, number(s.From), number(s.To), s.Limit, s.Most, number(s.Use), s.Abandoned})
	}
	r.OK = r.broken() == 0
	return r, nil
}

func (r result) broken() (n int) {
	for _, p := range r.Promises {
		if !p.OK {
			n++
		}
	}
	return n
}

// print shows the table.
func (r result) print(w io.Writer) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "PROMISED\tBOUND\tMEASURED\tCOUNTED BY\t\n")
	for _, p := range r.Promises {
		sign, verdict := "<=", "ok"
		if p.AtLeast {
			sign = ">="
		}
		if !p.OK {
			verdict = "BROKEN"
		}
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\n", p.Name, sign, p.Unit.text(p.Bound), p.Unit.text(p.Measured), p.By, verdict)
	}
	t.Flush()
	orphans := 0
	for _, s := range r.Scenes {
		orphans += s.Abandoned
	}
	fmt.Fprintf(w, "\n%v s. In the outage %d calls sent %d attempts. Calls to catalog abandoned, and still worked on for a while: %d.\n", math.Round(float64(r.Seconds)), r.Calls, r.Attempts, orphans)
	for _, p := range r.Promises {
		if !p.OK {
			fmt.Fprintf(w, "BROKEN: %s: %s; the bound %s is: %s\n", p.Name, p.Unit.text(p.Measured), p.Unit.text(p.Bound), p.Why)
		}
	}
	if r.OK {
		fmt.Fprintf(w, "All %d promises were kept. Seed %d.\n", len(r.Promises), r.Seed)
	}
}
