package client

import (
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	// grace is how long callers wait for a lost agent with on_agent_loss: hold.
	grace = 2 * time.Second
	// floorEvery is how often a process that lost the agent for longer may
	// begin a call.
	floorEvery = time.Second
	// spentUnseen is how long a spent token may go unseen by an agent that is
	// not told of it.
	spentUnseen = 5 * time.Millisecond
	// budgetAnswer bounds the wait for the agent's word on a retry.
	budgetAnswer = 20 * time.Millisecond
	// budgetNo is how long its "no" is believed without asking again.
	budgetNo = 25 * time.Millisecond
)

// rules are what a policy says of one limit. Immutable; the zero rules: no
// limit.
type rules struct {
	on         bool
	host       bool // scope
	limit      int  // permits, burst or capacity
	rate       policies.Rate
	maxWaiting int
	maxWait    time.Duration
	loss       policies.AgentLoss
	localLimit int
	localRate  policies.Rate
}

func rulesOf(kind wire.Kind, p *policies.Policy) *rules {
	if p == nil {
		return &rules{}
	}
	r := &rules{on: true, loss: p.OnAgentLoss}
	var scope policies.Scope
	switch {
	case kind == wire.Bulkhead && p.Bulkhead != nil:
		b := p.Bulkhead
		scope, r.limit, r.localLimit = b.Scope, b.MaxConcurrent, b.LocalMaxConcurrent
		r.maxWaiting, r.maxWait = b.MaxWaiting, b.MaxWait
	case kind == wire.RateLimit && p.RateLimit != nil:
		l := p.RateLimit
		scope, r.limit, r.rate, r.localRate = l.Scope, l.Burst, l.Rate, l.LocalRate
		// The queue for tokens is bounded by time alone.
		r.maxWaiting, r.maxWait = math.MaxInt, l.MaxWait
	case kind == wire.RetryBudget && p.RetryBudget != nil:
		scope, r.limit = p.RetryBudget.Scope, p.RetryBudget.Capacity
		r.maxWaiting, r.maxWait = math.MaxInt, budgetAnswer
	default:
		return &rules{}
	}
	r.host = scope != policies.ScopeProcess
	return r
}

// retryAfter is a guess at when a refused caller may come back.
func (r *rules) retryAfter() time.Duration {
	if r.rate > 0 {
		return r.rate.Every()
	}
	return 0
}

// soonFull says whether a rate's bucket fills up, beside the token that a call
// has just spent, before the agent looks again by itself. What it would earn
// from then on is lost, so it is told of each that is spent.
func (r *rules) soonFull() bool {
	return r.rate > 0 && float64(r.limit-1) < float64(r.rate)*spentUnseen.Seconds()
}

// configure follows the newest policy.
func (g *gate) configure(r *rules) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules.Store(r)
	now := time.Now()
	if g.kind == wire.RateLimit {
		g.setBucket(r, now)
	}
	b := g.bound.Load()
	share := r.on && r.host && g.sess != nil && g.sess.hosting()
	switch {
	case share && b.kind == private:
		g.rebind(&binding{cell: closed, index: -1, kind: opening}, true)
		g.sess.open(g)
	case share && b.kind == opening:
		g.sess.open(g)
	case !share && b.kind != private:
		// The agent drains the cell that is left, as what it counts comes back.
		g.rebind(newPrivate(), false)
		g.resize(r)
	default:
		g.resize(r)
	}
	g.drain(now)
}

// resize sets a private cell to the policy's limit. With the lock.
func (g *gate) resize(r *rules) {
	b := g.bound.Load()
	if b.kind != private {
		return
	}
	w := b.cell.Read()
	was := b.cell.Target(b.epoch)
	b.cell.SetTarget(b.epoch, r.limit)
	if g.kind == wire.RetryBudget {
		// Raised: what was earned stays, and a new budget begins full.
		if was == 0 {
			b.cell.Grant(b.epoch, max(0, r.limit-w.Available-w.InUse))
		}
		b.cell.Seize(b.epoch, max(0, w.Available+w.InUse-r.limit))
		return
	}
	// What is in use above a lowered limit is handed in as it is released:
	// available is all that may be short, also of what is in use from another
	// cell.
	if more := r.limit - w.Available - w.InUse - g.extra; more > 0 {
		b.cell.Grant(b.epoch, more)
	}
}

func (g *gate) setBucket(r *rules, now time.Time) {
	limit, burst := rate.Limit(r.rate), r.limit
	if b := g.bound.Load(); b.kind != private && r.loss == policies.LossLocal {
		limit, burst = rate.Limit(r.localRate), max(1, int(r.localRate))
	}
	if g.bucket == nil {
		g.bucket = rate.NewLimiter(limit, burst)
		return
	}
	if !r.on { // who has not seen that yet takes from what there was
		return
	}
	g.bucket.SetLimitAt(now, limit)
	g.bucket.SetBurstAt(now, burst)
}

// withoutAgent decides what a caller may have while the agent is away and its
// grants are used up. With the lock. ok: it is counted as extra.
func (g *gate) withoutAgent(r *rules, n int, now time.Time) (ok bool, err error) {
	lost, isLost := g.sess.lostSince()
	if !isLost {
		return false, nil
	}
	inUse := g.extra
	if b := g.bound.Load(); b.kind == hosted {
		inUse += b.cell.Read().InUse
	}
	if g.kind == wire.RetryBudget && r.loss != policies.LossOpen {
		// Nobody can answer, and a retry can be done without.
		return false, &Refused{Reason: BudgetOver}
	}
	switch r.loss {
	case policies.LossStrict:
		return false, &Refused{Reason: AgentLost}
	case policies.LossOpen:
		ok = true
	case policies.LossLocal:
		switch g.kind {
		case wire.Bulkhead:
			ok = inUse+n <= r.localLimit
		case wire.RateLimit:
			ok = g.bucket.AllowN(now, n)
		}
	default:
		switch {
		case now.Sub(lost) < grace:
		case g.kind == wire.Bulkhead:
			ok = inUse == 0
		case g.kind == wire.RateLimit:
			if ok = now.Sub(g.lastFloor) >= floorEvery; ok {
				g.lastFloor = now
			}
		}
	}
	if ok && g.kind == wire.Bulkhead {
		g.extra += n
		g.tellExtra()
	}
	return ok, nil
}

// mostWaiting is how long the queue may be. With the lock.
func (g *gate) mostWaiting(r *rules, now time.Time) int {
	most := r.maxWaiting
	if g.bound.Load().kind == private {
		return most
	}
	// Somebody has to wait if the agent is to know that more is wanted.
	most = max(most, r.limit)
	if _, lost := g.sess.lostSince(); (lost || g.sess.holdOn(now) > 0) && r.loss == policies.LossHold {
		most = max(most, min(most, math.MaxInt/10)*10)
	}
	return most
}

// patience is how long a caller waits at first.
func (g *gate) patience(r *rules) time.Duration {
	if g.bound.Load().kind == private {
		return r.maxWait
	}
	return max(r.maxWait, patienceForAgent)
}

// holdOn is how much longer a caller whose time is over waits all the same:
// the agent is expected back.
func (g *gate) holdOn() time.Duration {
	if g.sess == nil || g.kind == wire.RetryBudget || g.bound.Load().kind == private {
		return 0
	}
	if g.rules.Load().loss != policies.LossHold {
		return 0
	}
	return g.sess.holdOn(time.Now())
}

// overdue is the refusal of a caller that waited as long as it may.
func (g *gate) overdue(r *rules) error {
	switch g.kind {
	case wire.RateLimit:
		return &Refused{Reason: RateOver, RetryAfter: r.retryAfter()}
	case wire.RetryBudget:
		return &Refused{Reason: BudgetOver}
	}
	return &Refused{Reason: WaitOver}
}
