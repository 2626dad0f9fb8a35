package transport

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resagent/resagent/policies"
)

// breaker is the circuit of one authority. A single word says who may pass, so
// that a call in the closed state costs one atomic load. Judges decide when the
// closed state ends. The unbroken run of failures is counted here: gobreaker's
// decays with the window.
type breaker struct {
	// What each call looks at lies together: among thousands of upstreams it
	// comes from memory.
	word     atomic.Uint64 // state:2 | epoch:14 | until:48, microseconds since born
	host     hostCircuit   // shared with the host's other processes; nil: not
	adopted  atomic.Uint64 // the host's word that this one has followed
	throttle *throttle     // of mode proportional, in place of all states but those a person orders; nil: not
	js       atomic.Pointer[judges]
	run      atomic.Int32  // failures since the last success
	slow     time.Duration // of set; 0: no call is slow

	set  policies.CircuitBreaker
	born time.Time // the word's times count from here

	openings openings // the waits that an opening ends

	mu     sync.Mutex // guards changes of state, and:
	opens  int        // openings since it was last closed
	obeyed bool       // the newest of them was the host's
	probes int        // under way in this half-open epoch
	good   int        // probes of this epoch that succeeded
	issued time.Time  // when the newest probe was let through
}

type state uint64

const (
	closed state = iota
	open
	halfOpen
)

func (s state) String() string { return [...]string{"closed", "open", "half-open"}[s] }

// ticket is the word under which a call was let through. Its outcome counts
// only as long as the epoch is the same: a call of the time before the circuit
// opened says nothing about the time after.
type ticket uint64

// outcome is the word in which every admitted call ends.
type outcome uint8

const (
	ignored outcome = iota // says nothing about the upstream
	success
	failure
	slowSuccess // a success that took too long
	slowFailure // a failure that did
)

// failed says whether a call that ended so has failed.
func (o outcome) failed() bool { return o == failure || o == slowFailure }

// change is what an outcome did to the circuit.
type change uint8

const (
	unchanged change = iota
	opened
	reclosed
)

const (
	untilBits = 48
	epochBits = 14
	epochMask = 1<<epochBits - 1
	untilMask = 1<<untilBits - 1
)

func pack(s state, epoch uint64, until time.Duration) uint64 {
	us := uint64(max(0, (until+time.Microsecond-1)/time.Microsecond)) // rounded up: never early
	return uint64(s)<<(untilBits+epochBits) | (epoch&epochMask)<<untilBits | us&untilMask
}

func stateOf(w uint64) state         { return state(w >> (untilBits + epochBits)) }
func epochOf(w uint64) uint64        { return w >> untilBits & epochMask }
func untilOf(w uint64) time.Duration { return time.Duration(w&untilMask) * time.Microsecond }

func newBreaker(set policies.CircuitBreaker, now time.Time) *breaker {
	b := &breaker{set: set, slow: set.SlowCallDuration, born: now}
	if set.Mode == policies.ModeProportional {
		b.throttle = &throttle{multiplier: set.Multiplier, part: set.Window / 10}
		return b
	}
	b.js.Store(newJudges(b.set))
	return b
}

// admit lets a call through, or says when to come back (0: not known).
func (b *breaker) admit() (t ticket, ok bool, retryAfter time.Duration) {
	if b.throttle != nil {
		return b.admitPart()
	}
	if t, ok, wait, decided := b.admitByHost(); decided {
		return t, ok, wait
	}
	w := b.word.Load()
	if stateOf(w) == closed {
		return ticket(w), true, 0
	}
	return b.admitProbe(time.Now())
}

func (b *breaker) admitProbe(now time.Time) (ticket, bool, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.word.Load()
	switch stateOf(w) {
	case closed:
		return ticket(w), true, 0
	case open:
		if left := untilOf(w) - now.Sub(b.born); left > 0 {
			return 0, false, left
		}
		b.probes, b.good = 0, 0
		w = pack(halfOpen, epochOf(w)+1, 0)
		b.word.Store(w)
	}
	// A probe that has not ended within the time the circuit was open is
	// joined by another one, so that one that hangs cannot wedge the circuit.
	// Its own outcome still counts if it comes.
	patience := b.openFor()
	if waited := now.Sub(b.issued); b.probes >= max(1, b.set.HalfOpenRequests) && waited < patience {
		return 0, false, patience - waited
	}
	b.probes++
	b.issued = now
	return ticket(w), true, 0
}

// stands says whether the circuit is as it was when the ticket was given.
func (b *breaker) stands(t ticket) bool { return b.word.Load() == uint64(t) && b.follows() }

// record ends an admitted call. Call it exactly once per ticket.
func (b *breaker) record(t ticket, o outcome) change {
	if b.throttle != nil {
		if o != ignored {
			b.throttle.ended(time.Since(b.born), !o.failed())
		}
		return unchanged
	}
	if b.word.Load() != uint64(t) {
		return unchanged
	}
	if stateOf(uint64(t)) == halfOpen {
		return b.recordProbe(t, o)
	}
	if o == ignored {
		return unchanged
	}
	opens := b.js.Load().told(o)
	switch {
	case o.failed():
		run := b.run.Add(1)
		opens = opens || b.set.ConsecutiveFailures > 0 && int(run) >= b.set.ConsecutiveFailures
	case b.run.Load() != 0:
		b.run.Store(0)
	}
	if opens {
		return b.trip(t, time.Now())
	}
	return unchanged
}

// broke adds one failure to a call that was let through with t, and whose
// headers had been counted as a success: its body broke. As with any outcome it
// counts only as long as the epoch is the same, else the bodies that an outage
// left hanging would open the circuit again long after it is well.
func (b *breaker) broke(t ticket, began time.Time) change {
	if stateOf(uint64(t)) != closed || !b.stands(t) {
		return unchanged
	}
	if b.host != nil && b.throttle == nil {
		b.host.Bad(began)
	}
	return b.record(t, failure)
}

func (b *breaker) recordProbe(t ticket, o outcome) change {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.word.Load() != uint64(t) {
		return unchanged
	}
	b.probes = max(0, b.probes-1)
	switch o {
	case success:
		b.good++
		if b.good < max(1, b.set.HalfOpenRequests) {
			return unchanged
		}
		b.opens = 0
		b.run.Store(0)
		b.js.Store(newJudges(b.set))
		b.word.Store(pack(closed, epochOf(uint64(t))+1, 0))
		return reclosed
	case failure, slowSuccess, slowFailure: // slow is what it was opened for
		b.openLocked(epochOf(uint64(t)), time.Now())
		return opened
	}
	return unchanged
}

// trip opens a closed circuit, unless another call did.
func (b *breaker) trip(t ticket, now time.Time) change {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.word.Load() != uint64(t) || b.heldClosed() {
		return unchanged
	}
	b.openLocked(epochOf(uint64(t)), now)
	return opened
}

func (b *breaker) openLocked(epoch uint64, now time.Time) {
	b.obeyed = false
	b.opens++
	b.issued = time.Time{}
	d := b.openFor()
	// Up to a tenth more, so that processes that opened together do not probe
	// together.
	d += time.Duration(rand.Int64N(int64(d)/10 + 1))
	b.word.Store(pack(open, epoch+1, now.Sub(b.born)+d))
	b.openings.opened(now, d)
}

// openFor is the time of this opening: doubled with each one since the circuit
// was closed, up to MaxOpenFor.
func (b *breaker) openFor() time.Duration {
	d := b.set.OpenFor
	for range b.opens - 1 {
		if d >= b.set.MaxOpenFor/2 {
			return max(b.set.OpenFor, b.set.MaxOpenFor)
		}
		d *= 2
	}
	return d
}

// state is what the word says now; an open circuit whose time has passed is
// still called open until a call comes.
func (b *breaker) state() state {
	if s, ok := b.hostState(); ok {
		return s
	}
	return stateOf(b.word.Load())
}

// left is the time until an open circuit lets a probe through.
func (b *breaker) left() time.Duration {
	if left, ok := b.hostLeft(); ok {
		return left
	}
	w := b.word.Load()
	if stateOf(w) != open {
		return 0
	}
	return max(0, untilOf(w)-time.Since(b.born))
}
