//go:build linux

package agent

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	// lookAgain is how often a limit is looked at while anyone waits on it: a
	// process can be stopped between a release and its message.
	lookAgain = 2 * time.Millisecond
	// quantum is how long a process keeps what it has above its share.
	quantum = 2 * time.Millisecond
	// often is how soon a process comes back for tokens that gets larger
	// batches of them.
	often = 10 * time.Millisecond
	// together is how long tokens are gathered, at most, for those who wait.
	together = time.Millisecond
	// unseen is how long a grant is left alone that its process has not looked
	// at; after that its process counts as stopped.
	unseen = time.Millisecond
	// apart is how long after a look the next one may begin for a hint, for each
	// holder beyond the first crowd: a look reads all cells, so one answers all
	// the hints before it.
	apart = time.Microsecond
	crowd = 64
	// settle is how long a dead process's permits rest.
	settle = 25 * time.Millisecond
)

// limit is one limit of the host. Decisions about it are pure: they read
// [view]s and say in [order]s what to do; the allocator does it.
type limit struct {
	name string
	kind wire.Kind
	slot int // in the ledger

	capacity int           // permits, burst, or tokens
	every    time.Duration // rate: from one token to the next
	perUser  int           // most permits for one user
	removed  bool          // by a reload: drained, nothing granted
	tat      time.Duration // rate: see [allocator.setTAT]

	holders []*holder
	looked  time.Duration  // the last time
	turns   uint64         // counts grants, to serve the longest unserved first
	users   map[int]uint64 // turns at each user's last grant

	consumed uint64        // tokens that were used up since the limit is here
	counted  uint64        // of those, the ones that its history has
	series   *series       // its last minutes; nil: not used yet
	sampleAt time.Duration // when it is to be read for them again
}

// holder is one process's part of a limit.
type holder struct {
	limit    *limit
	process  *process
	cell     int
	epoch    uint16
	slot     int           // of its ledger entry
	granted  int           // as the ledger says
	since    time.Duration // of the last grant
	turn     uint64        // limit.turns at the last grant
	batch    int           // tokens: how many more than waited for
	deposits uint64        // seen so far
	due      time.Duration // since when callers are about to take; 0: none are
	counted  tally         // the process's calls
}

// view is one reading of a holder's cell, clamped to the ledger.
type view struct {
	uid              int
	granted          int
	available, inUse int // together at most granted
	due              int // of the available, what callers wait for and are about to take
	waiting          int // what callers wait for beyond that
	extra            int
	since            time.Duration
	turn             uint64
	batch            int
	attached         bool // somebody is there to be woken
}

// order is what to do with one holder.
type order struct {
	target int
	seize  int // at most so many of the available
}

// limitOf finds what a policy says of a limit. False: no such limit is shared.
func limitOf(p *policies.Policy, kind wire.Kind) (capacity int, every time.Duration, perUser int, ok bool) {
	switch {
	case p == nil:
	case kind == wire.Bulkhead && p.Bulkhead != nil:
		b := p.Bulkhead
		n := b.MaxConcurrent
		// 0.29 of 100 is 29, whatever binary fractions make of it.
		return n, 0, max(1, int(float64(n)*b.MaxSharePerUID+1e-9)), b.Scope != policies.ScopeProcess
	case kind == wire.RateLimit && p.RateLimit != nil:
		r := p.RateLimit
		every := max(1, r.Rate.Every())
		burst := min(r.Burst, int(math.MaxInt64/4/every)) // 2.5 million at one an hour
		return burst, every, burst, r.Scope != policies.ScopeProcess
	case kind == wire.RetryBudget && p.RetryBudget != nil:
		c := p.RetryBudget.Capacity
		return c, 0, c, p.RetryBudget.Scope != policies.ScopeProcess
	}
	return 0, 0, 0, false
}

// total adds up what a reading of all holders holds.
func total(views []view) (granted, extra, waiting int) {
	for _, v := range views {
		granted += v.granted
		extra += v.extra
		waiting += v.waiting
	}
	return granted, extra, waiting
}

// takeBack decides who hands in permits, and who may begin how many. Idle
// permits are taken only while somebody waits, or while more is out than the
// limit; beyond that each process keeps what it has.
func (l *limit) takeBack(now time.Duration, views []view) []order {
	granted, extra, waiting := total(views)
	room := max(0, l.capacity-extra)
	claims := make([]claim, len(views))
	demand := 0
	for i, v := range views {
		claims[i] = claim{uid: v.uid, demand: min(v.inUse+v.due+v.waiting, l.capacity)}
		demand += claims[i].demand
	}
	orders := make([]order, len(views))
	need := waiting - (l.capacity - extra - granted) // what has to come back
	tight := demand > room || granted+extra > l.capacity || l.perUser < l.capacity && waiting > 0
	shares := fairShares(room, l.perUser, claims)
	for i, v := range views {
		o := &orders[i]
		if !tight {
			o.target = l.capacity
			continue
		}
		o.target = shares[i]
		if granted+extra <= l.capacity && now-v.since < quantum {
			o.target = max(o.target, min(v.granted, v.inUse+v.due)) // its turn is not over
		}
		if need > 0 && v.granted > o.target {
			o.seize = min(v.available, v.granted-o.target)
		}
	}
	if !tight && need > 0 {
		l.seizeIdle(now, views, orders, need)
	}
	return orders
}

// seizeIdle takes need permits from those who have most lying idle.
func (l *limit) seizeIdle(now time.Duration, views []view, orders []order, need int) {
	idle := make([]int, 0, len(views))
	for i, v := range views {
		if v.available > v.due && (now-v.since >= unseen || !v.attached) {
			idle = append(idle, i)
		}
	}
	most := func(i int) int { return views[i].available - views[i].due }
	slices.SortFunc(idle, func(a, b int) int { return cmp.Compare(most(b), most(a)) })
	for _, i := range idle {
		orders[i].seize = min(need, most(i))
		need -= orders[i].seize
		if need == 0 {
			return
		}
	}
}
