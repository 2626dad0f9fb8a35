package client

import (
	"container/list"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

// patienceForAgent is the least time a caller waits on a host-wide limit, also
// where the policy says no waiting: the permit it needs may lie idle in
// another process, and the agent needs a moment to bring it.
const patienceForAgent = 5 * time.Millisecond

// gate admits callers to one limit, in order of arrival. What is to be had
// lies in the cell of its binding; the gate is the queue before it.
type gate struct {
	kind wire.Kind
	sess *Session // nil: never shared
	name string   // of the upstream

	rules   atomic.Pointer[rules]
	bound   atomic.Pointer[binding]
	waiting atomic.Int32 // length of the queue, read without the lock

	mu    sync.Mutex
	queue list.List // of *waiter
	units int       // what the queue waits for, in permits or tokens
	asked bool      // the agent knows that callers wait
	extra int       // in use, but in no cell the agent knows
	left  *binding  // the shared cell before this one, which may still have some in use
	// bucket is the process's own rate limit, for a private binding and for
	// on_agent_loss: local.
	bucket    *rate.Limiter
	lastFloor time.Time // rate limit: the last call let through on the floor
	noUntil   time.Time // retry budget: the agent has just said no
}

// binding is a cell and how to use it. Immutable.
type binding struct {
	page  *page.Page // keeps the cell mapped; nil: private memory
	cell  *page.Cell
	epoch uint16
	index int
	kind  bindingKind
}

// unlimited is what a caller has that nothing counts: the limit was taken away
// while it waited.
var unlimited = &binding{cell: closed, index: -1, kind: opening}

type bindingKind uint8

const (
	private bindingKind = iota // the process's own limit
	opening                    // the agent has been asked for a cell
	hosted                     // a cell of the shared page
)

type waiter struct {
	n     int
	ready chan struct{} // closed when from, or err, is set
	from  *binding
	err   error
}

func newGate(kind wire.Kind, s *Session, name string) *gate {
	g := &gate{kind: kind, sess: s, name: name}
	g.rules.Store(&rules{})
	g.bound.Store(newPrivate())
	return g
}

func newPrivate() *binding {
	b := &binding{cell: new(page.Cell), epoch: 1, index: -1}
	b.cell.Open(1)
	return b
}

// take tries to have n from b.
func (g *gate) take(b *binding, n int) bool {
	defer runtime.KeepAlive(b)
	if g.kind != wire.RateLimit {
		return b.cell.Acquire(b.epoch, n)
	}
	if b.kind == private {
		return g.bucket.AllowN(clock(), n)
	}
	return b.cell.Take(b.epoch, n)
}

// wait has n, at once or after waiting. A nil binding without an error means
// that it is counted in extra.
func (g *gate) wait(ctx context.Context, n int) (*binding, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	g.mu.Lock()
	r := g.rules.Load()
	w := &waiter{n: n, ready: make(chan struct{})}
	if g.queue.Len() == 0 && g.serve(w, began) {
		g.mu.Unlock()
		return w.from, w.err
	}
	if g.queue.Len() >= g.mostWaiting(r, began) {
		g.mu.Unlock()
		return nil, &Refused{Reason: QueueFull, RetryAfter: r.retryAfter()}
	}
	place := g.queue.PushBack(w)
	g.units += n
	g.waiting.Store(int32(g.queue.Len()))
	g.drain(began)
	g.ask()
	g.mu.Unlock()

	select {
	case <-w.ready:
		return w.from, w.err
	default:
	}
	timer := time.NewTimer(g.patience(r))
	defer timer.Stop()
	for {
		select {
		case <-w.ready:
			return w.from, w.err
		case <-ctx.Done():
			return g.leave(place, context.Cause(ctx))
		case <-timer.C:
			if more := g.holdOn(); more > 0 {
				timer.Reset(more)
				continue
			}
			g.mu.Lock()
			g.drain(time.Now())
			g.mu.Unlock()
			return g.leave(place, g.overdue(r))
		}
	}
}

// leave takes a waiter out of the queue; if it was served meanwhile it keeps
// what it was given.
func (g *gate) leave(place *list.Element, why error) (*binding, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := place.Value.(*waiter)
	select {
	case <-w.ready:
		return w.from, w.err
	default:
	}
	g.remove(place)
	g.drain(time.Now()) // the next one may need less
	return nil, why
}

// remove takes an element out of the queue. With the lock.
func (g *gate) remove(place *list.Element) {
	g.queue.Remove(place)
	g.units -= place.Value.(*waiter).n
	g.waiting.Store(int32(g.queue.Len()))
}

// drain serves the queue's front as far as it can, and tells the cell what is
// still wanted. With the lock.
func (g *gate) drain(now time.Time) {
	for front := g.queue.Front(); front != nil; front = g.queue.Front() {
		w := front.Value.(*waiter)
		if !g.serve(w, now) {
			break
		}
		g.remove(front)
		close(w.ready)
	}
	b := g.bound.Load()
	if b.kind == hosted {
		b.cell.SetWaiting(b.epoch, g.units)
		if g.offer(b) { // who looks for that sees the callers too
			g.asked = true
		}
	}
	if g.queue.Len() == 0 {
		g.asked = false
	}
	runtime.KeepAlive(b)
}

// serve gives w what it wants if it can. With the lock.
func (g *gate) serve(w *waiter, now time.Time) bool {
	r := g.rules.Load()
	if !r.on {
		w.from = unlimited
		return true
	}
	b := g.bound.Load()
	if g.take(b, w.n) {
		w.from = b
		return true
	}
	if b.kind == private {
		return false
	}
	ok, err := g.withoutAgent(r, w.n, now)
	if w.err = err; ok && g.kind != wire.Bulkhead {
		w.from = unlimited
	}
	return ok || err != nil
}

// ask tells the agent that callers wait; once, until none does: from then on
// it looks by itself. With the lock.
func (g *gate) ask() {
	if g.queue.Len() == 0 || g.asked {
		return
	}
	if b := g.bound.Load(); b.kind == hosted {
		g.asked = g.sess.hint(wire.Want, b.index)
	}
	g.sess.hurry()
}

// offer tells the agent of something available above the target: another
// process waits for it. True: it was told.
func (g *gate) offer(b *binding) bool {
	w := b.cell.Read()
	return w.Available > 0 && w.Available+w.InUse > b.cell.Target(b.epoch) && g.sess.hint(wire.Free, b.index)
}

// release gives n back to where they came from.
func (g *gate) release(from *binding, n int) {
	if from == unlimited {
		return
	}
	if from == nil || !from.cell.Release(from.epoch, n) {
		g.endExtra(n)
		return
	}
	queued := g.waiting.Load() > 0
	if queued {
		g.mu.Lock()
		g.drain(time.Now())
		g.mu.Unlock()
	}
	// The queue is served from the cell that is bound now: this may be one
	// that was left, which the agent drains.
	if from.kind == hosted && (!queued || from != g.bound.Load()) {
		g.offer(from)
	}
	runtime.KeepAlive(from)
}

// endExtra is release for what no cell of the agent's counts: taken without
// the agent, or from a cell that was closed since.
func (g *gate) endExtra(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.extra = max(g.extra-n, 0)
	g.tellExtra()
	if g.kind == wire.Bulkhead {
		g.resize(g.rules.Load())
	}
	g.drain(time.Now())
}

// tellExtra writes extra where the agent sees it. With the lock.
func (g *gate) tellExtra() {
	if b := g.bound.Load(); b.kind == hosted && g.kind == wire.Bulkhead {
		b.cell.SetExtra(b.epoch, g.extra)
		runtime.KeepAlive(b)
	}
}

// rebind puts the gate before another cell. What is in use in a cell that is
// left for good (not one that the agent still counts) becomes extra. With the
// lock.
func (g *gate) rebind(b *binding, leftForGood bool) {
	old := g.bound.Swap(b)
	switch {
	case leftForGood:
		g.extra += old.cell.Close(old.epoch)
	case old.kind == hosted:
		g.left = old
	}
	if g.left != nil && g.left.cell == b.cell && g.left.epoch == b.epoch {
		g.left = nil // given again
	}
	now := time.Now()
	if g.kind == wire.RateLimit {
		g.setBucket(g.rules.Load(), now)
	}
	if b.kind == hosted {
		// A wake-up that came while the gate stood elsewhere was not heard: as
		// long as it seems under way the agent sends no other.
		b.cell.Awake()
	}
	g.asked = false
	g.tellExtra()
	g.drain(now)
	g.ask()
	runtime.KeepAlive(old)
}

// woken is the agent's wake-up.
func (g *gate) woken() {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.bound.Load()
	if b.kind != hosted {
		return
	}
	b.cell.Awake()
	now, before := time.Now(), g.queue.Len()
	g.drain(now)
	if g.kind != wire.RetryBudget || g.queue.Len() < before {
		// While the wake-up lay unread the agent may have stopped looking; and
		// who came after the question has no answer yet.
		g.asked = false
		g.ask()
		if g.queue.Len() == 0 && before > 0 && g.rules.Load().soonFull() {
			g.sess.hint(wire.Free, b.index)
		}
		return
	}
	// For a budget a wake-up is also the answer "no": a retry does not wait for
	// tokens that failing calls will not bring.
	for front := g.queue.Front(); front != nil; front = g.queue.Front() {
		w := front.Value.(*waiter)
		w.err = &Refused{Reason: BudgetOver}
		g.remove(front)
		close(w.ready)
		g.noUntil = now.Add(budgetNo)
	}
	g.drain(now)
}
