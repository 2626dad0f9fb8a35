package client

import (
	"context"
	"runtime"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// closed is the cell of a gate that waits for its real one.
var closed = new(page.Cell)

// Limits bound the calls to one upstream. They are made by [Session.Limits]
// or [Local], and safe for concurrent use.
type Limits struct {
	bulkhead, rate, budget *gate
}

// Local makes limits of the process's own that belong to no session: for an
// authority that no policy names. A nil policy has no limits.
func Local(p *policies.Policy) *Limits {
	l := newLimits(nil, "")
	l.configure(p)
	return l
}

func newLimits(s *Session, name string) *Limits {
	return &Limits{
		bulkhead: newGate(wire.Bulkhead, s, name),
		rate:     newGate(wire.RateLimit, s, name),
		budget:   newGate(wire.RetryBudget, s, name),
	}
}

func (l *Limits) gates() [3]*gate { return [3]*gate{l.bulkhead, l.rate, l.budget} }

func (l *Limits) gate(k wire.Kind) *gate {
	for _, g := range l.gates() {
		if g.kind == k {
			return g
		}
	}
	return nil
}

func (l *Limits) configure(p *policies.Policy) {
	for _, g := range l.gates() {
		g.configure(rulesOf(g.kind, p))
	}
}

// Acquire takes a permit of the bulkhead, waiting in order of arrival, at most
// the policy's max_wait and as long as ctx allows. It is free where the policy
// has no bulkhead. Errors: a [*Refused], or context.Cause(ctx).
func (l *Limits) Acquire(ctx context.Context) (Permit, error) {
	if p, ok := l.TryAcquire(); ok {
		return p, nil
	}
	g := l.bulkhead
	b, err := g.wait(ctx, 1)
	if err != nil {
		return Permit{}, err
	}
	return Permit{gate: g, from: b}, nil
}

// TryAcquire is Acquire without waiting: false where there is no permit at
// once, or others wait for one.
func (l *Limits) TryAcquire() (Permit, bool) {
	g := l.bulkhead
	if !g.rules.Load().on {
		return Permit{}, true
	}
	if g.waiting.Load() == 0 {
		if b := g.bound.Load(); g.take(b, 1) {
			return Permit{gate: g, from: b}, true
		}
	}
	return Permit{}, false
}

// Permit is one call in flight. The zero Permit holds nothing.
type Permit struct {
	gate *gate
	from *binding
}

// Release gives the permit back. To be called exactly once for each
// successful Acquire, from any goroutine.
func (p Permit) Release() {
	if p.gate != nil {
		p.gate.release(p.from, 1)
	}
}

// Take takes one token of the rate limit, waiting at most the policy's
// max_wait and as long as ctx allows. It is free where the policy has no rate
// limit. Errors as for Acquire.
func (l *Limits) Take(ctx context.Context) error {
	if l.TryTake() {
		return nil
	}
	g := l.rate
	if g.bound.Load().kind == private {
		return g.takePrivate(ctx, g.rules.Load())
	}
	_, err := g.wait(ctx, 1)
	return err
}

// TryTake is Take without waiting: false where there is no token at once, or
// others wait for one.
func (l *Limits) TryTake() bool {
	g := l.rate
	if !g.rules.Load().on {
		return true
	}
	b := g.bound.Load()
	return (b.kind == private || g.waiting.Load() == 0) && g.take(b, 1)
}

// takePrivate waits on the process's own bucket, which keeps the order of
// arrival by itself.
func (g *gate) takePrivate(ctx context.Context, r *rules) error {
	if !r.on {
		return nil
	}
	now := time.Now()
	next := g.bucket.ReserveN(now, 1)
	wait := next.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	if wait > r.maxWait {
		next.CancelAt(now)
		return &Refused{Reason: RateOver, RetryAfter: wait}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		next.CancelAt(time.Now())
		return context.Cause(ctx)
	}
}

// Reserve takes n tokens of the retry budget. It waits only for the agent's
// word, 20 ms at most. False: the budget has not enough. Without a budget in
// the policy it is always true.
func (l *Limits) Reserve(ctx context.Context, n int) (Reservation, bool) {
	g := l.budget
	if !g.rules.Load().on {
		return Reservation{}, true
	}
	if b := g.bound.Load(); g.waiting.Load() == 0 && g.take(b, n) {
		return Reservation{gate: g, from: b, n: n}, true
	}
	if g.deniedNow() {
		return Reservation{}, false
	}
	b, err := g.wait(ctx, n)
	if err != nil {
		return Reservation{}, false
	}
	return Reservation{gate: g, from: b, n: n}, true
}

// deniedNow: asking again would bring the same answer, or there is nobody to
// ask.
func (g *gate) deniedNow() bool {
	if g.bound.Load().kind == private {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.noUntil)
}

// Deposit adds one token to the retry budget, for a success at the first try.
func (l *Limits) Deposit() {
	g := l.budget
	r := g.rules.Load()
	if !r.on {
		return
	}
	switch b := g.bound.Load(); b.kind {
	case private:
		b.cell.Earn(b.epoch, 1, r.limit)
	case hosted:
		b.cell.Deposit()
	}
}

// Count counts a call that has ended, with its attempts that were sent, and
// whether the fallback answered it: for those who look at the agent's status.
// It is one atomic step on a cell that the call has used; nothing where no
// limit of the upstream is the host's.
func (l *Limits) Count(attempts int, fallback bool) {
	for _, g := range [...]*gate{l.bulkhead, l.rate, l.budget} {
		if b := g.bound.Load(); b.kind == hosted {
			b.cell.Count(attempts, fallback)
			runtime.KeepAlive(b)
			return
		}
	}
}

// Reservation is a retry's tokens. To be ended by exactly one of its methods.
// The zero Reservation holds nothing.
type Reservation struct {
	gate *gate
	from *binding
	n    int
}

// Refund gives the tokens back: the retry succeeded, or was never sent.
func (r Reservation) Refund() {
	if r.gate != nil {
		r.gate.release(r.from, r.n)
	}
}

// Consume spends them: the retry failed.
func (r Reservation) Consume() {
	if r.gate != nil && r.from != nil {
		r.from.cell.Consume(r.from.epoch, r.n)
	}
}
