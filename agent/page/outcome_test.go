package page

import (
	"testing"
	"time"
	"unsafe"
)

func TestCircuitWordIsLossless(t *testing.T) {
	for _, s := range []State{CircuitClosed, CircuitOpen, CircuitHalfOpen, CircuitClosing} {
		for _, forced := range []bool{false, true} {
			for _, epoch := range []uint64{0, 1, circuitEpoch} {
				for _, until := range []time.Duration{0, time.Microsecond, 200 * 24 * time.Hour} {
					c := NewCircuit(s, forced, epoch, until)
					if c.State() != s || c.Forced() != forced || c.Epoch() != epoch || c.Until() != until {
						t.Errorf("%v %v %d %v reads %v %v %d %v", s, forced, epoch, until, c.State(), c.Forced(), c.Epoch(), c.Until())
					}
				}
			}
		}
	}
	if NewCircuit(CircuitOpen, false, circuitEpoch+1, 0).Epoch() != 0 {
		t.Error("an epoch above its bits does not wrap")
	}
}

func TestOutcomeCounts(t *testing.T) {
	p := &Page{mem: make([]byte, Size)}
	o := p.Outcome(Outcomes - 1)
	if !o.Bad(time.Second) || o.Bad(time.Second) {
		t.Error("the agent is to be told of the first failure, and only of that")
	}
	o.Own(time.Second)
	if got, want := o.Read(), (Tally{Bad: 2, Own: 1, Run: 2, Last: time.Second, Marked: time.Second}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	o.Good(2190 * time.Millisecond)
	if got, want := o.Read(), (Tally{Good: 1, Bad: 2, Own: 1, Last: 2100 * time.Millisecond, Marked: time.Second, Since: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	o.Called(3 * time.Second)
	if got, want := o.Read(), (Tally{Good: 1, Bad: 2, Own: 1, Last: 3 * time.Second, Marked: time.Second, Since: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	o.Clean()
	if !o.Bad(0) {
		t.Error("after Clean the agent is to be told again")
	}
	if o.Clean(); !o.Slow() || o.Slow() || o.Read().Slow != 2 {
		t.Errorf("the agent is to be told of the first slow call, and only of that; counted are %d of 2", o.Read().Slow)
	}
	if got := p.Outcome(0).Read(); got != (Tally{}) {
		t.Errorf("another cell was written: %+v", got)
	}
}

// The mark dates the newest successes: it is never older than MarkedFor when a
// call is counted, what was counted before it is not in Since, and a call that
// took long and is dated at its beginning moves nothing back.
func TestOutcomeMark(t *testing.T) {
	o := new(Outcome)
	if got := o.Read(); got.Marked != 0 || got.Since != 0 {
		t.Errorf("a cell without calls is marked: %+v", got)
	}
	for range 3 {
		o.Good(time.Second)
	}
	o.Good(time.Second + MarkedFor - lastUnit)
	if got := o.Read(); got.Marked != time.Second || got.Since != 4 {
		t.Errorf("%d successes since %v, want 4 since 1s", got.Since, got.Marked)
	}
	later := time.Second + MarkedFor
	o.Good(later)
	o.Bad(time.Millisecond)
	if got := o.Read(); got.Marked != later || got.Since != 1 || got.Good != 5 || got.Last != later {
		t.Errorf("%+v, want one of 5 successes since %v", got, later)
	}
}

// Circuit words lie where doc.go says, and none outside is touched.
func TestCircuitWords(t *testing.T) {
	c := &Control{mem: make([]byte, Size)}
	w := NewCircuit(CircuitOpen, false, 3, time.Hour)
	for _, i := range []int{0, Circuits - 1} {
		c.SetCircuit(i, w)
		c.SetPause(i, time.Hour)
		if c.Pause(i) != time.Hour {
			t.Errorf("pause %d reads %v, want 1h", i, c.Pause(i))
		}
		if c.Circuit(i) != w {
			t.Errorf("word %d reads %x, want %x", i, c.Circuit(i), w)
		}
	}
	for _, i := range []int{-1, Circuits, 1 << 40} {
		c.SetCircuit(i, w)
		c.SetPause(i, time.Hour)
		if c.Circuit(i) != 0 || c.Pause(i) != 0 {
			t.Errorf("word %d exists", i)
		}
	}
	if c.words().generation.Load() != 0 || firstPause != 33024 || firstPause+8*Circuits > Size || unsafe.Sizeof(Outcome{}) != 64 {
		t.Error("the layout of doc.go is broken")
	}
}
