//go:build linux

package client

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// circuitCell gives the circuit of http://a outcome cell i, or none.
func (d *desk) circuitCell(i int) {
	d.s.handle(&wire.Message{Type: wire.Assign, Cell: &wire.Cell{Upstream: "a", Authority: "http://a", Kind: wire.CircuitBreaker, Index: i, Entry: 7}})
}

// policies pushes a set in which a has circuits of this scope.
func (d *desk) policies(scope policies.Scope) {
	d.s.handle(&wire.Message{Type: wire.Policies, Set: &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
		"a": {Match: []policies.Match{{Host: "a"}}, CircuitBreaker: &policies.CircuitBreaker{Scope: scope}}}}})
}

// A circuit that a reload took from the host is asked for again when another
// one gives it back: the transport, which has met these settings before, does
// not ask.
func TestCircuitIsAskedForAgain(t *testing.T) {
	d := newDesk(t)
	d.s.first = make(chan struct{})
	d.policies(policies.ScopeHost)
	c := d.s.Circuit("a", "http://a")
	d.circuitCell(3)
	if c.bound.Load() == nil {
		t.Fatal("no cell")
	}
	d.policies(policies.ScopeProcess)
	d.circuitCell(-1)
	d.said()
	d.policies(policies.ScopeProcess)
	if said := d.said(); slices.Contains(said, "open") {
		t.Errorf("of a circuit that is the process's own the agent is told %q", said)
	}
	d.policies(policies.ScopeHost)
	if said := d.said(); !slices.Contains(said, "open") {
		t.Errorf("the circuit is the host's again, and the agent is told %q", said)
	}
	d.circuitCell(3)
	d.policies(policies.ScopeHost)
	if said := d.said(); slices.Contains(said, "open") {
		t.Errorf("of a circuit that has its cell the agent is told %q", said)
	}
}

// A circuit whose cell the agent took, because it was not called and others
// were, asks for one at its next call, whenever that began; after a no not
// again within a second.
func TestCircuitWantsItsCellBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.s.first = make(chan struct{})
		d.policies(policies.ScopeHost)
		c := d.s.Circuit("a", "http://a")
		d.circuitCell(3)
		d.said()
		began := time.Now()
		for what, call := range map[string]func(){
			"good": func() { c.Good(began) }, "bad": func() { c.Bad(began) }, "own": func() { c.Own(began) }, "called": func() { c.Called(time.Now()) },
		} {
			asks := func(when string, want bool) {
				t.Helper()
				call()
				call()
				if said := d.said(); want != slices.Equal(said, []string{"open"}) || !want && said != nil {
					t.Errorf("%s, %s: the agent is told %q; a cell wanted: %v", what, when, said, want)
				}
			}
			d.circuitCell(-1)
			asks("after it was taken", true)
			d.circuitCell(-1)
			asks("right after a no", false)
			if d.s.Circuit("a", "http://"+what); d.said() != nil {
				t.Errorf("%s: right after a no a new circuit asks", what)
			}
			time.Sleep(cellAgain)
			asks("a second later", true)
			d.circuitCell(3)
			before, counted := d.page.Outcome(3).Read(), uint64(1)
			if call(); what == "called" {
				counted = 0
			}
			if after := d.page.Outcome(3).Read(); after.Good+after.Bad+after.Own != before.Good+before.Bad+before.Own+counted {
				t.Errorf("%s, with the cell again: %+v, then %+v", what, before, after)
			}
			d.said()
		}
		d.circuitCell(-1)
		d.policies(policies.ScopeProcess)
		d.said()
		if c.Good(began); d.said() != nil {
			t.Error("a cell is wanted of a circuit that is the process's own")
		}
		d.lose()
		if c.Good(began); d.said() != nil {
			t.Error("a cell is wanted of nobody")
		}
	})
}

// One call in many goroutines asks once.
func TestOneAsksForACell(t *testing.T) {
	d := newDesk(t)
	d.s.first = make(chan struct{})
	d.policies(policies.ScopeHost)
	c := d.s.Circuit("a", "http://a")
	d.circuitCell(3)
	d.circuitCell(-1)
	d.said()
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() { c.Good(time.Now()) })
	}
	all.Wait()
	d.opens(1)
}

// However many authorities are called, a session knows so many circuits, and
// those that have cells are among them.
func TestCircuitsOfASessionAreBounded(t *testing.T) {
	d := newDesk(t)
	d.s.first = make(chan struct{})
	d.policies(policies.ScopeHost)
	one := d.s.Circuit("a", "http://a")
	d.circuitCell(3)
	var all []*Circuit
	for i := range 3 * maxCircuits {
		all = append(all, d.s.Circuit("a", fmt.Sprint("http://", i)))
		if i%100 == 0 {
			d.said()
		}
	}
	if n := len(d.s.circuits); n != maxCircuits || d.s.Circuit("a", "http://a") != one {
		t.Errorf("%d circuits are known, want %d and the one that has a cell", n, maxCircuits)
	}
	forgotten := all[slices.IndexFunc(all, func(c *Circuit) bool { return d.s.circuits[c.key] != c })]
	d.welcome()
	d.opens(page.Outcomes)
	for range 2 {
		forgotten.Good(time.Now())
	}
	d.opens(1)
	if d.s.circuits[forgotten.key] != forgotten {
		t.Error("one that was forgotten, and is called, is not known again")
	}
	d.welcome()
	d.opens(page.Outcomes)
	again := &Circuit{sess: d.s, key: forgotten.key} // of another policy
	if again.Good(time.Now()); d.said() != nil {
		t.Error("two want one cell")
	}
}

// opens reads that so many cells are asked for, which goes on beside the test
// once the connection is full, and that no more are.
func (d *desk) opens(n int) {
	d.t.Helper()
	for end := time.Now().Add(10 * time.Second); n > 0 && time.Now().Before(end); runtime.Gosched() {
		n -= len(d.said())
	}
	if more := len(d.said()); n != 0 || more != 0 {
		d.t.Fatalf("%d cells are not asked for, and then %d more", n, more)
	}
}

// A probe that another agent gives than the one that was asked, because the
// connection is a new one, is told to end there: else it would count as failed.
func TestProbeOfANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		c := d.s.Circuit("a", "http://a")
		d.circuitCell(3)
		got := make(chan Probe, 1)
		go func() { got <- c.Probe(t.Context()) }()
		synctest.Wait()
		d.s.link.Store(nil)
		d.welcome()
		d.circuitCell(4)
		d.said()
		d.s.handle(&wire.Message{Type: wire.Probe, Indexes: []int{4}, Generation: 9})
		p := <-got
		if !p.Given() {
			t.Fatal("no probe")
		}
		p.End(ProbeSuccess)
		if said := d.said(); !slices.Equal(said, []string{"probed"}) {
			t.Errorf("the agent that gave the probe is told %q of its end", said)
		}
	})
}

// What can become of the question for a probe.
func TestProbeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		c := d.s.Circuit("a", "http://a")
		if c.Probe(t.Context()).Given() || c.Word() != 0 {
			t.Error("without a cell there is a probe, or a word")
		}
		d.circuitCell(3)
		d.said()
		began := time.Now()
		if c.Probe(t.Context()).Given() || time.Since(began) != probeWait {
			t.Errorf("an agent that does not answer: waited %v, want %v", time.Since(began), probeWait)
		}
		d.said()
		answer := func(number uint64) {
			d.s.handle(&wire.Message{Type: wire.Probe, Indexes: []int{3, -1, page.Outcomes}, Generation: number})
		}
		answer(1)
		if said := d.said(); !slices.Equal(said, []string{"probed"}) {
			t.Errorf("of a probe that comes too late the agent is told %q, want that nobody has it", said)
		}
		got := make(chan Probe, 2)
		for range 2 {
			go func() { got <- c.Probe(t.Context()) }()
		}
		synctest.Wait()
		answer(2)
		answer(0)
		if one, other := <-got, <-got; one.Given() == other.Given() {
			t.Errorf("of two that asked, %v and %v have a probe; want one", one.Given(), other.Given())
		}
		d.said()
		if c.Probe(t.Context()).Given() || d.said() != nil {
			t.Error("right after a no the agent was asked again")
		}
		d.circuitCell(-1)
		answer(5)
		if said := d.said(); said != nil {
			t.Errorf("of a circuit that is gone the agent is told %q", said)
		}
	})
}

// Between the welcome of another agent and its word on which cell is whose
// nothing is counted, and what was said of the circuit still stands.
func TestNothingIsCountedBetweenAgents(t *testing.T) {
	d := newDesk(t)
	c := d.s.Circuit("a", "http://a")
	d.circuitCell(3)
	c.Bad(time.Now())
	word := page.NewCircuit(page.CircuitOpen, true, 4, SinceBoot(time.Now())+time.Hour)
	d.s.link.Load().control.SetCircuit(7, word)
	d.welcome()
	for range 5 {
		c.Bad(time.Now())
		c.Good(time.Now())
	}
	if got := d.page.Outcome(3).Read(); got.Bad != 1 || got.Good != 0 {
		t.Errorf("before its cell is known %+v is counted", got)
	}
	if w := c.Word(); w != word || !c.Stands(w) {
		t.Errorf("the earlier agent's word is %x, want %x to stand", w, word)
	}
	d.circuitCell(5)
	c.Bad(time.Now())
	if got := d.page.Outcome(5).Read(); got.Bad != 1 {
		t.Errorf("in its new cell %+v is counted", got)
	}
	if w := c.Word(); w != 0 {
		t.Errorf("the new agent's word is %x, want none", w)
	}
}
