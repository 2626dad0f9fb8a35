//go:build linux

package agent

import (
	"os"
	"slices"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// limitKey names a limit of the host.
type limitKey struct {
	name string
	kind wire.Kind
}

// allocator gives out the host's limits. It is the one writer of the ledger.
// Its methods are called with the agent's lock held and the time since boot;
// they return at once.
type allocator struct {
	ledger       *ledger
	policies     *policies.Snapshot
	limits       map[limitKey]*limit
	processes    map[identity]*process
	hot          map[*limit]time.Duration // limits somebody waits on: when to look again
	recoverUntil time.Duration            // no grants before: an earlier ledger was lost
	traffic      map[string]*traffic      // by upstream
	counted      time.Duration            // when all counts of calls were last read

	// clock is for [allocator.after]; nil: no time passes in a method.
	clock func() time.Duration
	// wake is told of cells to send a wake-up for.
	wake func(p *process, cell int)
	// gone is told of cells that are not the process's any more.
	gone func(p *process, c wire.Cell)
}

// process is one page of one process, which outlives its connections.
type process struct {
	id       identity
	slot     int        // in the ledger
	page     *page.Page // nil: not come back yet, or gone
	holders  map[int]*holder
	outcomes map[int]*circuit // by outcome cell
	sought   time.Duration    // when room among them was last made
	newest   int              // where to look for the next
	epochs   [page.Cells]uint16
	session  *session // nil: no connection
	dead     bool
	pidfd    *os.File // watched; nil: could not be had
	life     *os.File // watched; nil: not come back yet
}

// addProcess takes in a page that is new to this ledger.
func (a *allocator) addProcess(id identity, p *page.Page) (*process, error) {
	slot, err := a.ledger.addProcess(id)
	if err != nil {
		return nil, err
	}
	proc := &process{id: id, slot: slot, page: p, holders: make(map[int]*holder)}
	a.processes[id] = proc
	return proc, nil
}

// open finds or makes the process's cell for a limit.
func (a *allocator) open(p *process, key limitKey, now time.Duration) (wire.Cell, bool) {
	no := func(why string) (wire.Cell, bool) {
		return wire.Cell{Upstream: key.name, Kind: key.kind, Index: -1, Reason: why}, false
	}
	l, why := a.limit(key, now)
	if l == nil {
		return no(why)
	}
	for _, h := range p.holders {
		if h.limit == l && h.left() {
			a.fillTo(l, a.after(now))
			a.dropHolder(h, now)
		} else if h.limit == l {
			return wire.Cell{Upstream: key.name, Kind: key.kind, Index: h.cell, Epoch: h.epoch}, true
		}
	}
	for i := range page.Cells {
		if p.holders[i] != nil {
			continue
		}
		// Above what the page has seen, also under an earlier agent: an old
		// holder must not match. Skips 0 when it wraps.
		p.epochs[i] = max(1, max(p.epochs[i], p.page.Cell(i).Newest())+1)
		h, err := a.addHolder(p, l, i, p.epochs[i], 0)
		if err != nil {
			return no(err.Error())
		}
		p.page.Cell(i).Open(h.epoch)
		h.deposits = p.page.Cell(i).Deposits()
		h.counted.begin(p.page.Cell(i).Traffic(), now)
		return wire.Cell{Upstream: key.name, Kind: key.kind, Index: i, Epoch: h.epoch}, true
	}
	return no("this process's page has no cell left")
}

func (a *allocator) addHolder(p *process, l *limit, cell int, epoch uint16, granted int) (*holder, error) {
	slot, err := a.ledger.addEntry(entry{process: p.slot, limit: l.slot, cell: cell, epoch: epoch, granted: granted})
	if err != nil {
		return nil, err
	}
	h := &holder{limit: l, process: p, cell: cell, epoch: epoch, slot: slot, granted: granted}
	p.holders[cell] = h
	l.holders = append(l.holders, h)
	return h, nil
}

// limit finds or makes a limit that the policies in force say.
func (a *allocator) limit(key limitKey, now time.Duration) (*limit, string) {
	u := a.policies.Named(key.name)
	if u == nil {
		return nil, "no policy of that name"
	}
	capacity, every, perUser, ok := limitOf(&u.Policy, key.kind)
	if !ok {
		return nil, "not a limit of the host"
	}
	if l := a.limits[key]; l != nil {
		return l, ""
	}
	slot, err := a.ledger.addLimit(key.name, key.kind)
	if err != nil {
		return nil, err.Error()
	}
	l := &limit{name: key.name, kind: key.kind, slot: slot, capacity: capacity, every: every, perUser: perUser}
	a.limits[key] = l
	a.ledger.setEvery(slot, every)
	if now < a.recoverUntil {
		// What was spent before is not known: begin empty.
		if l.kind == wire.RateLimit {
			a.setTAT(l, now+time.Duration(capacity)*every)
		}
	} else if l.kind == wire.RetryBudget {
		a.ledger.setLevel(slot, capacity)
	}
	return l, ""
}

// setGranted writes the ledger.
func (a *allocator) setGranted(h *holder, n int) {
	h.granted = n
	a.ledger.setEntry(h.slot, entry{process: h.process.slot, limit: h.limit.slot, cell: h.cell, epoch: h.epoch, granted: n})
}

// cellOf is the holder's cell, or nil while its process is away.
func (h *holder) cellOf() *page.Cell {
	if h.process.page == nil {
		return nil
	}
	return h.process.page.Cell(h.cell)
}

// left: the process closed the cell. What it had in use there it counts as
// extra in its next one.
func (h *holder) left() bool {
	c := h.cellOf()
	return c != nil && c.Read().Epoch != h.epoch
}

// read takes one reading of every holder, each word once, and believes
// nothing beyond the ledger.
func (a *allocator) read(l *limit, now time.Duration) []view {
	views := make([]view, len(l.holders))
	a.readInto(views, l, now)
	return views
}

// readInto is read into views, one for each holder.
func (a *allocator) readInto(views []view, l *limit, now time.Duration) {
	for i, h := range l.holders {
		v := &views[i]
		*v = view{uid: h.process.id.uid, granted: h.granted, inUse: h.granted, since: h.since, turn: h.turn, batch: h.batch}
		c := h.cellOf()
		if c == nil || h.process.dead {
			continue
		}
		w := c.Read()
		if w.Epoch != h.epoch {
			continue
		}
		v.available = min(w.Available, h.granted)
		if l.kind == wire.Bulkhead {
			// Nothing counts as free that was not taken back: what is neither
			// here nor there is in use.
			v.inUse = h.granted - v.available
			v.extra = min(c.Extra(h.epoch), l.capacity)
		} else {
			v.inUse = min(w.InUse, h.granted-v.available)
		}
		v.attached = h.process.session != nil
		asleep := c.Pending() && now-h.since >= unseen
		if v.attached && !asleep {
			waiting := min(c.Waiting(h.epoch), l.capacity)
			v.due = min(waiting, v.available)
			v.waiting = waiting - v.due
		}
	}
	if l.series != nil {
		a.observe(l, views, now)
	}
}

// look decides about one limit, and does it.
func (a *allocator) look(l *limit, now time.Duration) {
	l.looked = now
	switch {
	case l.removed:
		a.lookRemoved(l, now)
	case l.kind == wire.Bulkhead:
		a.lookPermits(l, now)
	case l.kind == wire.RateLimit:
		a.lookRate(l, now)
	case l.kind == wire.RetryBudget:
		a.lookBudget(l, now)
	}
}

// lookRemoved takes back what is idle of a removed limit, frees the cells that
// nothing holds any more, and forgets the limit with the last.
func (a *allocator) lookRemoved(l *limit, now time.Duration) {
	delete(a.hot, l)
	views := a.read(l, now)
	if l.kind != wire.Bulkhead {
		a.spent(l, views)
	}
	for i, h := range slices.Clone(l.holders) {
		if c := h.cellOf(); c != nil {
			c.SetTarget(h.epoch, 0)
			a.seize(h, &views[i], views[i].available)
		}
		if !h.process.dead && (h.granted == 0 || h.left()) {
			a.dropHolder(h, now)
		}
	}
	a.dropEmpty(l)
}

func (a *allocator) lookPermits(l *limit, now time.Duration) {
	views := a.read(l, now)
	orders := l.takeBack(now, views)
	for i, h := range l.holders {
		if c := h.cellOf(); c != nil {
			c.SetTarget(h.epoch, orders[i].target)
		}
	}
	for i, h := range l.holders {
		if orders[i].seize > 0 {
			a.seize(h, &views[i], orders[i].seize)
		}
	}
	granted, extra, _ := total(views)
	free := l.capacity - granted - extra
	if now >= a.recoverUntil && free > 0 {
		for i, n := range l.grants(free, views) {
			if n > 0 {
				a.grant(l.holders[i], n, max(orders[i].target, views[i].granted+n), now)
			}
		}
	}
	a.again(l, views, now)
}

// again has a limit looked at again as long as any caller waits, also for what
// lies ready: another may take it first, or the process be stopped before it
// does. One that does not take it is told; if it does not even look then, it
// counts as stopped.
func (a *allocator) again(l *limit, views []view, now time.Duration) bool {
	wanted := false
	for i, h := range l.holders {
		v := &views[i]
		wanted = wanted || v.waiting+v.due > 0
		switch {
		case v.due == 0:
			h.due = 0
		case h.due == 0:
			h.due = now
		case now-h.due >= unseen:
			a.rouse(h)
		}
	}
	if wanted {
		a.hot[l] = now + lookAgain
	} else {
		delete(a.hot, l)
	}
	return wanted
}

// seize takes up to n back, the cell first and then the ledger.
func (a *allocator) seize(h *holder, v *view, n int) int {
	c := h.cellOf()
	if c == nil {
		return 0
	}
	took := min(c.Seize(h.epoch, n), h.granted)
	if took > 0 {
		a.setGranted(h, h.granted-took)
		v.granted, v.available = h.granted, max(0, v.available-took)
	}
	return took
}

// grant gives n out, the ledger first and then the cell.
func (a *allocator) grant(h *holder, n, target int, now time.Duration) {
	c := h.cellOf()
	a.setGranted(h, h.granted+n)
	c.SetTarget(h.epoch, target)
	if !c.Grant(h.epoch, n) {
		// The process left the cell, or scribbles in it. Nothing was given.
		a.setGranted(h, h.granted-n)
		return
	}
	l := h.limit
	l.turns++
	h.since, h.turn = now, l.turns
	if l.users == nil {
		l.users = make(map[int]uint64)
	}
	l.users[h.process.id.uid] = l.turns
	a.rouse(h)
}

// rouse sends a wake-up, unless one is under way.
func (a *allocator) rouse(h *holder) {
	if c := h.cellOf(); c != nil && h.process.session != nil && c.Wake() {
		a.wake(h.process, h.cell)
	}
}

// dropEmpty forgets a removed limit that nobody holds any more.
func (a *allocator) dropEmpty(l *limit) {
	if l.removed && len(l.holders) == 0 && a.limits[limitKey{l.name, l.kind}] == l {
		delete(a.limits, limitKey{l.name, l.kind})
		delete(a.hot, l)
		a.ledger.freeLimit(l.slot)
	}
}

func (a *allocator) dropHolder(h *holder, now time.Duration) {
	l := h.limit
	a.countEnded(h, now)
	if i := slices.Index(l.holders, h); i >= 0 {
		l.holders = slices.Delete(l.holders, i, i+1)
	}
	a.ledger.freeEntry(h.slot)
	delete(h.process.holders, h.cell)
}

// die begins the end of a process: what it held rests until [allocator.bury].
func (a *allocator) die(p *process) bool {
	if p.dead {
		return false
	}
	p.dead, p.session = true, nil
	return true
}

// bury frees what a dead process held.
func (a *allocator) bury(p *process, now time.Duration) {
	for _, h := range p.holders {
		a.fillTo(h.limit, now)
		a.credit(h)
		l := h.limit
		a.dropHolder(h, now)
		a.look(l, now)
		a.dropEmpty(l)
	}
	a.ledger.freeProcess(p.slot)
	delete(a.processes, p.id)
	if p.page != nil {
		p.page.Close()
		p.page = nil
	}
}

// setPolicies puts a new set in force.
func (a *allocator) setPolicies(s *policies.Snapshot, now time.Duration) {
	a.policies = s
	a.trafficPolicies(s)
	for key, l := range a.limits {
		var p *policies.Policy
		if u := s.Named(key.name); u != nil {
			p = &u.Policy
		}
		capacity, every, perUser, ok := limitOf(p, key.kind)
		if !ok {
			l.removed = true
			for _, h := range l.holders {
				if h.process.session != nil {
					a.gone(h.process, wire.Cell{Upstream: l.name, Kind: l.kind, Index: -1, Reason: "removed by a reload"})
				}
			}
			a.look(l, now)
			continue
		}
		l.removed = false
		a.resize(l, capacity, every, now)
		l.perUser = perUser
		a.look(l, now)
	}
}
