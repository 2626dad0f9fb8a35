package page

import (
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	// Outcomes is the number of outcome cells of a page.
	Outcomes = 496
	// Circuits is the number of circuit words of a control page.
	Circuits = 4000

	firstOutcome = firstCell + Cells*64
	firstCircuit = 1024
	firstPause   = firstCircuit + 8*Circuits
)

// Outcome counts how one process's calls to one authority ended. The process
// writes it; the agent reads, and believes none of it beyond what one process
// may prove. All counts only grow. Each method is one atomic step.
type Outcome struct {
	good  atomic.Uint64
	bad   atomic.Uint64
	own   atomic.Uint64 // the process's own troubles: its resolver, certificates, descriptors
	run   atomic.Uint64 // failures since the last success
	last  atomic.Uint64 // when a call was last noted, in tenths of a second since boot
	dirty atomic.Uint64
	slow  atomic.Uint64 // calls that took too long, however they ended; good or bad counts them too
	mark  atomic.Uint64 // what good was a moment ago, and when: see [Tally.Marked]
}

// Outcome returns outcome cell i, 0 <= i < [Outcomes].
func (p *Page) Outcome(i int) *Outcome {
	return (*Outcome)(unsafe.Pointer(&p.mem[firstOutcome+i*int(unsafe.Sizeof(Outcome{}))]))
}

const (
	lastUnit = 100 * time.Millisecond
	markBits = 34 // of the successes in a mark; the rest is its time
	// markFor is how old a mark may be when a call is counted.
	markFor = uint64(MarkedFor / lastUnit)
)

// MarkedFor is how long a mark stands: a call that is counted later sets a new
// one.
const MarkedFor = 5 * time.Second

// Called notes a call without counting how it ended: of mode proportional.
func (o *Outcome) Called(now time.Duration) { o.at(now) }

// at notes when a call is counted, before it is. One that took long, and is
// dated at its beginning, does not make its process look idle.
func (o *Outcome) at(now time.Duration) {
	t := uint64(max(0, now) / lastUnit)
	if o.last.Load() >= t {
		return
	}
	o.last.Store(t)
	if m := o.mark.Load(); m == 0 || t >= m>>markBits+markFor {
		o.mark.Store(t<<markBits | o.good.Load()&(1<<markBits-1))
	}
}

// Good counts a success. now is the time since boot, on every method here.
func (o *Outcome) Good(now time.Duration) {
	o.at(now)
	o.good.Add(1)
	if o.run.Load() != 0 {
		o.run.Store(0)
	}
}

// Bad counts a failure of the upstream. True: the agent is to be told.
func (o *Outcome) Bad(now time.Duration) bool {
	o.at(now)
	o.run.Add(1)
	o.bad.Add(1)
	return o.dirty.Swap(1) == 0
}

// Slow counts a call that took too long, beside what it ended in; call it
// before that is counted. True: the agent is to be told.
func (o *Outcome) Slow() bool {
	o.slow.Add(1)
	return o.dirty.Swap(1) == 0
}

// Own counts a failure that is this process's own.
func (o *Outcome) Own(now time.Duration) {
	o.at(now)
	o.own.Add(1)
}

// Tally is one reading of an outcome cell.
type Tally struct {
	Good, Bad, Own, Run, Slow uint64
	Last                      time.Duration // to a tenth of a second, rounded down
	// Marked is a time before the newest calls, at most [MarkedFor] before the
	// last of them, and Since the successes from then on. So one who did not
	// look for long knows how many successes belong to the newest failures.
	// Zero: the process is older than this, or has no calls.
	Marked time.Duration
	Since  uint64
}

// Read reads each count once.
func (o *Outcome) Read() Tally {
	mark := o.mark.Load() // before the successes: they are as many, or more
	t := Tally{
		Good: o.good.Load(), Bad: o.bad.Load(), Own: o.own.Load(), Run: o.run.Load(), Slow: o.slow.Load(),
		Last: time.Duration(min(o.last.Load(), 1<<36)) * lastUnit,
	}
	if mark != 0 {
		t.Marked, t.Since = time.Duration(mark>>markBits)*lastUnit, (t.Good-mark)&(1<<markBits-1)
	}
	return t
}

// Clean has the process tell of its next failure. The agent's side; it reads
// the cell once more afterwards.
func (o *Outcome) Clean() { o.dirty.Store(0) }

// ClosingTime is how long a circuit takes to close: the part of the calls that
// may pass grows evenly. Both sides count with it.
const ClosingTime = 2 * time.Second

// ProbeTime is how long a probe may take: then its process cancels it, and the
// agent counts it as failed.
const ProbeTime = 10 * time.Second

// State is that of a circuit.
type State uint8

// The states. In Closing, a growing part of the calls may pass.
const (
	CircuitClosed State = iota
	CircuitOpen
	CircuitHalfOpen
	CircuitClosing
)

func (s State) String() string {
	return [...]string{"closed", "open", "half-open", "closing"}[s&3]
}

// Circuit is all that processes see of a host's circuit, in one word:
// state 2 bits | forced 1 | epoch 13 | until 48, microseconds since boot. The
// zero Circuit is closed and always was.
type Circuit uint64

const (
	untilBits    = 48
	epochBits    = 13
	circuitEpoch = 1<<epochBits - 1
)

// NewCircuit packs a word. until counts since boot; zero means that there is
// no end.
func NewCircuit(s State, forced bool, epoch uint64, until time.Duration) Circuit {
	w := uint64(s&3)<<62 | epoch&circuitEpoch<<untilBits | uint64(max(0, until/time.Microsecond))&(1<<untilBits-1)
	if forced {
		w |= 1 << 61
	}
	return Circuit(w)
}

// State of the circuit.
func (c Circuit) State() State { return State(c >> 62) }

// Forced says whether a person decided it.
func (c Circuit) Forced() bool { return c>>61&1 != 0 }

// Epoch changes with every change of the circuit; 0 as long as there was none.
func (c Circuit) Epoch() uint64 { return uint64(c) >> untilBits & circuitEpoch }

// Until is when the state ends, since boot; zero: it has no set end.
func (c Circuit) Until() time.Duration {
	return time.Duration(uint64(c)&(1<<untilBits-1)) * time.Microsecond
}

// Circuit returns circuit word i; the zero one where i is out of range.
func (c *Control) Circuit(i int) Circuit {
	if w := c.circuit(i); w != nil {
		return Circuit(w.Load())
	}
	return 0
}

// SetCircuit is the agent's side of it.
func (c *Control) SetCircuit(i int, to Circuit) {
	if w := c.circuit(i); w != nil {
		w.Store(uint64(to))
	}
}

func (c *Control) circuit(i int) *atomic.Uint64 {
	if i < 0 || i >= Circuits {
		return nil
	}
	return (*atomic.Uint64)(unsafe.Pointer(&c.mem[firstCircuit+8*i]))
}

// Pause is until when, since boot, the calls of circuit word i are held back;
// zero: they are not, or i is out of range.
func (c *Control) Pause(i int) time.Duration {
	if i < 0 || i >= Circuits {
		return 0
	}
	return time.Duration(c.pause(i).Load()&(1<<untilBits-1)) * time.Microsecond
}

// SetPause is the agent's side of it.
func (c *Control) SetPause(i int, until time.Duration) {
	if i >= 0 && i < Circuits {
		c.pause(i).Store(uint64(max(0, until/time.Microsecond)))
	}
}

func (c *Control) pause(i int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&c.mem[firstPause+8*i]))
}
