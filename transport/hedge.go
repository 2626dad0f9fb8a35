package transport

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// hedge sends a second attempt of a call beside a first one that is slow. The
// first good answer is given and the other attempt is cancelled: it says
// nothing about the upstream to the circuit. If neither is good, a response is
// given before an error, and the second's before the first's. One that still
// waits for a permit when the first attempt ends is not sent, and the call goes
// on as if there were no hedge: if it failed it may be retried.
//
// The first attempt runs on the caller's goroutine. A second goroutine is there
// only once the delay is over, and may outlive the call by the time the base
// takes to notice that it was cancelled. So it works on a copy of the request.
type hedge struct {
	c     *call
	first *attempt
	began time.Duration // when the first was sent, since c.start
	timer *time.Timer   // nil: this call is only measured
	done  chan hedged
	left  chan struct{} // closed when nobody waits for the second any more

	mu     sync.Mutex // guards what follows
	over   bool       // no second attempt begins any more
	second *attempt
	sent   bool     // the second was
	won    *attempt // whose good answer came first
}

// hedged is what the second attempt came to.
type hedged struct {
	result
	panic any
}

var errOvertaken = errors.New("transport: overtaken by the call's other attempt")

// firstAttempt is the one that every call makes, with a hedge beside it if it
// is slow and its policy has one.
func (c *call) firstAttempt() result {
	if c.rules.Hedge == nil {
		return c.attempt()
	}
	if !c.hedgeable() {
		r := c.attempt()
		c.allowHedge(&r)
		return r
	}
	a := c.newAttempt()
	a.undecided.Store(true)
	if err := a.admit(); err != nil {
		return unsent(err)
	}
	a.startClock()
	h := &hedge{c: c, first: a, began: c.since()}
	c.beside = h
	if delay, ok := c.hedgeDelay(); ok {
		h.done, h.left = make(chan hedged), make(chan struct{})
		h.timer = time.AfterFunc(delay, h.begin)
	}
	r := a.toBase()
	c.allowHedge(&r)
	return h.join(r)
}

// hedgeable says whether the call may be sent twice at a time without harm. A
// stream of events or another protocol is not slow when it is silent. Below a
// retry nothing is sent twice, as nothing is retried: who made it pays once.
func (c *call) hedgeable() bool {
	return !c.behind && c.above() == 1 && reads(c.req.Method) && c.upload == nil && !has(c.header, "Upgrade") &&
		!strings.HasPrefix(value(c.header, "Accept"), "text/event-stream")
}

// hedgeDelay is how long the first attempt has for itself; ok is false if there
// is to be no second.
func (c *call) hedgeDelay() (delay time.Duration, ok bool) {
	delay, ok = c.rules.Hedge.Delay, true
	if delay == policies.P95 {
		delay, ok = c.up.p95.value()
	}
	if left, limited := c.left(); limited && delay >= left {
		return 0, false
	}
	return delay, ok
}

// allowHedge counts a call that was sent.
func (c *call) allowHedge(r *result) {
	if !r.refused {
		c.up.hedges.earn(c.rules.Hedge.MaxExtraLoad)
	}
}

// begin is the timer's function: it sends the second attempt, unless the first
// has ended, the circuit is not closed, a Retry-After stands, or there is no allowance or no budget.
func (h *hedge) begin() {
	c := h.c
	if b := c.breaker(); b != nil && b.state() != closed || c.gaveUp() || c.held() > 0 || !c.up.hedges.take() {
		return
	}
	var tokens client.Reservation
	if c.rules.RetryBudget != nil {
		var ok bool
		if tokens, ok = c.up.limits.Reserve(c.ctx, retryCost); !ok {
			c.up.hedges.giveBack()
			return
		}
	}
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		c.up.hedges.giveBack()
		tokens.Refund()
		return
	}
	a := &attempt{begun: c.since()}
	a.undecided.Store(true)
	a.open(c)
	a.inner = c.req.Clone(a.context())
	a.inner.Header = c.stamped(c.header.Clone())
	h.second = a
	h.mu.Unlock()
	h.run(a, tokens)
}

// run makes the second attempt. A panic of the base is the caller's, which gets
// it in place of the first attempt's answer, or if it has left, the hook's.
func (h *hedge) run(a *attempt, tokens client.Reservation) {
	out := hedged{result: result{err: errNeither}} // if the base ends the goroutine
	returned, won := false, false
	defer func() {
		if !returned {
			if out.panic = recover(); out.panic != nil {
				h.first.overtake() // its answer is not wanted any more
			}
			a.abandon()
		}
		switch {
		case out.refused:
			h.c.up.hedges.giveBack()
			tokens.Refund()
		case won:
			tokens.Refund()
		default:
			tokens.Consume()
		}
		select {
		case h.done <- out:
		case <-h.left:
			h.drop(out)
		}
	}()
	if err := a.admit(); err != nil {
		out.result = unsent(err)
	} else if !h.send() {
		a.finish(ignored)
		out.result = result{refused: true}
	} else {
		a.startClock()
		e := h.c.event(Hedged)
		e.Took = h.c.since() - h.began
		h.c.t.tell(e)
		out.result = a.toBase()
		won = out.good() && h.win(a)
	}
	returned = true
}

// send says whether the second attempt may still be sent.
func (h *hedge) send() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = !h.over
	return h.sent
}

// win says whether an attempt with a good answer is the first that has one,
// and ends the other if so.
func (h *hedge) win(a *attempt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.won == nil {
		h.won = a
		for _, other := range [...]*attempt{h.first, h.second} {
			if other != nil && other != a {
				other.overtake()
			}
		}
	}
	return h.won == a
}

// join decides what the call's first attempts came to, once the first one has
// ended. One that was overtaken has nothing to give: the other's answer is there.
func (h *hedge) join(r result) result {
	c := h.c
	if c.rules.Hedge.Delay == policies.P95 {
		c.up.p95.add(c.since()-h.began, r.good())
	}
	h.mu.Lock()
	h.over = true
	c.hedged = h.sent
	waits := h.second
	h.mu.Unlock()
	if waits != nil && !c.hedged { // in our own queue, which lets go of it at once
		waits.overtake()
		if out := <-h.done; out.panic != nil {
			c.beside = nil
			panic(out.panic)
		}
		return h.choose(r)
	}
	if !c.hedged || r.good() && h.win(h.first) || c.gaveUp() && !h.first.overtaken.Load() {
		h.leave()
		return h.choose(r)
	}
	out := <-h.done
	c.beside = nil // end has nothing to end if this panics
	if out.panic != nil {
		panic(out.panic)
	}
	c.hedgeWon = out.good()
	if out.resp == nil && r.resp != nil {
		return h.choose(r)
	}
	if r.resp != nil {
		closeBody(r.resp)
	}
	return h.choose(out.result)
}

// choose makes a result's attempt the one that stands for the call.
func (h *hedge) choose(r result) result {
	h.c.beside = nil
	if a := r.attempt; a != nil {
		h.c.newest = a
		a.undecided.Store(false)
		if a.ended.Load() && h.c.unlink != nil {
			h.c.unlink()
		}
	}
	return r
}

// leave ends the second attempt, if there is one, and waits for nothing.
func (h *hedge) leave() {
	h.mu.Lock()
	second := h.second
	h.over = true
	h.mu.Unlock()
	if h.timer == nil {
		return
	}
	h.timer.Stop()
	if second != nil {
		second.overtake()
	}
	close(h.left)
}

// drop ends a second attempt whose caller has left.
func (h *hedge) drop(out hedged) {
	if out.panic != nil {
		h.c.panicked(out.panic)
	}
	if out.resp != nil {
		closeBody(out.resp)
	}
}

// overtake cancels an attempt because the other one of its call has won.
func (a *attempt) overtake() {
	a.overtaken.Store(true)
	a.life.end(errOvertaken)
}
