package transport

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/resagent/resagent/agent/client"
)

// What a breaker does where the host shares its circuit: the agent's word
// comes first, and the process's own judgement goes on beside it, for troubles
// that are the process's alone and for the time when the agent is not there.

// hostCircuit is a circuit as the host shares it: a [client.Circuit], or in
// tests one that stands for it.
type hostCircuit interface {
	Word() client.Word
	Stands(client.Word) bool
	Good(time.Time)
	Bad(time.Time)
	Own(time.Time)
	Slow()
	Called(time.Time)
	Pause(time.Duration)
	PausedUntil() time.Duration
	Probe(context.Context) hostProbe
}

// hostProbe is leave to pass a circuit that is half-open. Its End is told once.
type hostProbe interface {
	Given() bool
	End(client.ProbeOutcome)
}

// ofAgent is the one that a session has.
type ofAgent struct{ *client.Circuit }

func (c ofAgent) Probe(ctx context.Context) hostProbe { return c.Circuit.Probe(ctx) }

// hostsProbe is the ticket of a call that the host's circuit let through as a
// probe. It is never a breaker's word.
const hostsProbe = ^ticket(0) - 1

// rampWait is what a call is told to wait that a closing circuit refused.
const rampWait = 100 * time.Millisecond

// follows says whether the process's circuit has followed the host's word.
func (b *breaker) follows() bool {
	return b.host == nil || uint64(b.host.Word()) == b.adopted.Load()
}

// admitByHost is admit as far as the agent decides.
func (b *breaker) admitByHost() (t ticket, ok bool, retryAfter time.Duration, decided bool) {
	if b.host == nil {
		return 0, false, 0, false
	}
	w := b.host.Word()
	if w.State() == client.CircuitClosed && !w.Forced() || !b.host.Stands(w) {
		return 0, false, 0, false
	}
	t = ticket(b.word.Load())
	switch w.State() {
	case client.CircuitOpen:
		return 0, false, w.Until() - client.SinceBoot(time.Now()), true
	case client.CircuitHalfOpen:
		return 0, false, 0, true
	case client.CircuitClosing:
		// The process's own circuit was closed along with the host's.
		if stateOf(uint64(t)) != closed {
			return 0, false, 0, false
		}
		left := w.Until() - client.SinceBoot(time.Now())
		return t, rand.Float64() >= float64(left)/float64(client.ClosingTime), rampWait, true
	}
	return t, true, 0, true // forced closed
}

// admitPart is admit of mode proportional. What a person orders comes first.
func (b *breaker) admitPart() (t ticket, ok bool, retryAfter time.Duration) {
	if b.host != nil {
		if w := b.host.Word(); w.Forced() && b.host.Stands(w) {
			if w.State() == client.CircuitOpen {
				return 0, false, w.Until() - client.SinceBoot(time.Now())
			}
			return 0, true, 0
		}
	}
	return 0, !b.throttle.refuses(time.Since(b.born), rand.Float64()), 0
}

// follow brings the process's circuit up to the host's word, and says what
// that changed: after the host's has closed no process stays shut, and after it
// has opened the process is open too, should the agent go away.
func (b *breaker) follow() change {
	if b.follows() {
		return unchanged
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.host.Word()
	if b.adopted.Load() == uint64(w) {
		return unchanged
	}
	epoch, was := epochOf(b.word.Load()), stateOf(b.word.Load())
	if b.throttle != nil { // it has no states but those that are ordered
		was = closed
		if obeyed := client.Word(b.adopted.Load()); obeyed.State() == client.CircuitOpen {
			was = open
		}
	}
	before := client.Word(b.adopted.Load())
	defer b.adopted.Store(uint64(w))
	switch {
	case w.Epoch() == 0: // it never changed
	case before.Epoch() == 0 && !b.obeyed && w.State() == client.CircuitClosed && !w.Forced(): // nor since there is a word
	case w.State() == client.CircuitOpen, w.State() == client.CircuitHalfOpen:
		now := time.Now()
		left := max(0, w.Until()-client.SinceBoot(now))
		if b.throttle == nil {
			b.obeyed, b.opens = true, max(1, b.opens)
			b.issued = time.Time{}
			b.word.Store(pack(open, epoch+1, now.Sub(b.born)+left))
		}
		b.openings.opened(now, left)
		if was != open {
			return opened
		}
	default:
		if b.throttle == nil {
			b.obeyed, b.opens = false, 0
			b.run.Store(0)
			b.js.Store(newJudges(b.set))
			b.word.Store(pack(closed, epoch+1, 0))
		}
		if was != closed {
			return reclosed
		}
	}
	return unchanged
}

// probing says whether the host's circuit is half-open.
func (b *breaker) probing() bool {
	if b.host == nil {
		return false
	}
	w := b.host.Word()
	return w.State() == client.CircuitHalfOpen && b.host.Stands(w)
}

// heldClosed says whether a person has closed the circuit.
func (b *breaker) heldClosed() bool {
	if b.host == nil {
		return false
	}
	w := b.host.Word()
	return w.Forced() && w.State() == client.CircuitClosed && b.host.Stands(w)
}

// hostState is the state that the agent has decided; false: none but closed.
func (b *breaker) hostState() (state, bool) {
	if b.host == nil {
		return closed, false
	}
	w := b.host.Word()
	if !b.host.Stands(w) {
		return closed, false
	}
	switch w.State() {
	case client.CircuitOpen:
		return open, true
	case client.CircuitHalfOpen:
		return halfOpen, true
	}
	return closed, w.Forced()
}

// hostLeft is left as far as the agent decides.
func (b *breaker) hostLeft() (time.Duration, bool) {
	s, ok := b.hostState()
	if !ok || s != open {
		return 0, ok
	}
	return max(0, b.host.Word().Until()-client.SinceBoot(time.Now())), true
}

// tellHost counts an attempt for the host, unless its circuit changed since.
func (b *breaker) tellHost(t ticket, p hostProbe, o outcome, own bool, began time.Time) {
	if t == hostsProbe {
		switch {
		case o == success:
			p.End(client.ProbeSuccess)
		case o == ignored, own: // its own trouble says nothing of the upstream
			p.End(client.ProbeNothing)
		default:
			p.End(client.ProbeFailure)
		}
		return
	}
	if !b.stands(t) {
		return
	}
	if !own && (o == slowSuccess || o == slowFailure) {
		b.host.Slow()
	}
	switch {
	case o == success, o == slowSuccess:
		b.host.Good(began)
	case o.failed() && own:
		b.host.Own(began)
	case o.failed():
		b.host.Bad(began)
	}
}
