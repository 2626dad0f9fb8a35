//go:build linux

package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// costs are what the simulation cannot measure itself.
type costs struct{ message, delay, call time.Duration }

// setup is one simulated host.
type setup struct {
	processes int
	limit     int           // permits of the one upstream that all call
	callers   int           // of each process, each calling again at once
	service   time.Duration // mean time that a call holds its permit
	think     time.Duration // mean time between a caller's calls
	start     time.Duration // within which the callers begin
	once      bool          // each calls once
}

// outcome is what came of it.
type outcome struct {
	calls, hints, wakes int
	busy                time.Duration   // of the agent's lock, in allocation
	messages            time.Duration   // of the agent's processors, in messages
	used                float64         // part of the limit's time
	demand              float64         // the same, if nobody had to wait
	late                []time.Duration // what callers waited that had to
	longest             time.Duration   // one decision
	starved             int             // processes without a single call
}

// event is something that happens at a time.
type event struct {
	at time.Duration
	do func()
	n  int // order among equals
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// host is the simulation. Its processes behave as agent/client does: they take
// what is in their cell, queue where there is nothing, say so once, and offer
// what is above their target.
type host struct {
	setup
	costs
	random  *rand.Rand
	now     time.Duration
	queue   events
	n       int
	alloc   *agent.Allocation
	all     []*member
	free    time.Duration // when the agent's lock is free again
	ticking time.Duration // when the next tick is due; 0: none
	woken   []int         // by the decision under way
	out     outcome
}

// member is a process.
type member struct {
	h       *host
	pid     int
	page    *page.Page // keeps the cell mapped
	cell    *page.Cell
	index   int
	epoch   uint16
	waiting []time.Duration // since when
	asked   bool
	calls   int
}

func (h *host) after(d time.Duration, do func()) {
	h.n++
	heap.Push(&h.queue, event{h.now + d, do, h.n})
}

func (h *host) about(mean time.Duration) time.Duration {
	return time.Duration(h.random.ExpFloat64() * float64(mean))
}

// simulate runs one host for so long, after as long again to settle.
func simulate(s setup, c costs, d time.Duration, seed uint64) (*outcome, error) {
	set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
		"upstream": {Bulkhead: &policies.Bulkhead{MaxConcurrent: s.limit}},
	}})
	if err != nil {
		return nil, err
	}
	h := &host{setup: s, costs: c, random: rand.New(rand.NewPCG(seed, 9)), now: time.Second, alloc: agent.NewAllocation(set)}
	defer h.alloc.Close()
	h.alloc.Woken = h.wake
	for pid := range s.processes {
		p, err := h.alloc.Join(pid, 1000+pid%4)
		if err != nil {
			return nil, err
		}
		cell, err := h.alloc.Open(pid, "upstream", wire.Bulkhead, h.now)
		if err != nil {
			return nil, err
		}
		m := &member{h: h, pid: pid, page: p, cell: p.Cell(cell.Index), index: cell.Index, epoch: cell.Epoch}
		h.all = append(h.all, m)
		for range s.callers {
			h.after(time.Duration(h.random.Int64N(int64(s.start))), m.ask)
		}
	}
	begin, end := h.now, h.now+d
	if !s.once {
		begin, end = h.now+d, h.now+2*d
		h.after(d, func() { // what was before is settling
			h.out = outcome{}
			for _, m := range h.all {
				m.calls = 0
			}
		})
	}
	for len(h.queue) > 0 && h.queue[0].at < end {
		e := heap.Pop(&h.queue).(event)
		h.now = e.at
		e.do()
	}
	o := &h.out
	o.used = float64(o.calls) * float64(s.service) / float64(end-begin) / float64(s.limit)
	o.demand = min(1, float64(s.processes*s.callers)*float64(s.service)/float64(s.service+s.think)/float64(s.limit))
	for _, m := range h.all {
		if m.calls == 0 {
			o.starved++
		}
	}
	slices.Sort(o.late)
	return o, nil
}

// ask is a caller that wants a permit.
func (m *member) ask() {
	if len(m.waiting) == 0 && m.cell.Acquire(m.epoch, 1) {
		m.begin()
		return
	}
	m.waiting = append(m.waiting, m.h.now)
	m.drain()
}

// begin is a call that has its permit.
func (m *member) begin() {
	m.h.after(m.h.about(m.h.service), func() {
		m.calls++
		m.h.out.calls++
		m.cell.Release(m.epoch, 1)
		m.drain()
		if !m.h.once {
			m.h.after(m.h.about(m.h.think), m.ask)
		}
	})
}

// drain serves the queue as far as it can, and tells the agent what it must.
func (m *member) drain() {
	for len(m.waiting) > 0 && m.cell.Acquire(m.epoch, 1) {
		m.h.out.late = append(m.h.out.late, m.h.now-m.waiting[0])
		m.waiting = m.waiting[1:]
		m.begin()
	}
	m.cell.SetWaiting(m.epoch, len(m.waiting))
	w := m.cell.Read()
	offer := w.Available > 0 && w.Available+w.InUse > m.cell.Target(m.epoch)
	ask := len(m.waiting) > 0 && !m.asked
	m.asked = len(m.waiting) > 0
	if offer || ask {
		m.h.out.hints++
		m.h.out.messages += m.h.message
		m.h.after(m.h.delay+m.h.message, func() { m.h.decide(func() { m.h.alloc.Hint(m.pid, m.index, m.h.now) }) })
	}
}

// decide has the agent do something under its lock, once that is free, and
// charges what it really took.
func (h *host) decide(do func()) {
	if h.free > h.now {
		h.after(h.free-h.now, func() { h.decide(do) })
		return
	}
	began := time.Now()
	do()
	took := time.Since(began)
	h.out.busy += took
	h.out.longest = max(h.out.longest, took)
	h.free = h.now + took
	for _, pid := range h.woken {
		m := h.all[pid]
		h.after(took+h.message+h.delay, func() { // each session has a writer of its own
			m.cell.Awake()
			m.asked = false
			m.drain()
		})
	}
	h.woken = h.woken[:0]
	h.tick()
}

// tick has the agent look again when it wants to.
func (h *host) tick() {
	next := h.alloc.Tick(0) // looks at nothing, says when
	if next == 0 || h.ticking > h.now && h.ticking <= next {
		return
	}
	h.ticking = max(next, h.now+1)
	h.after(h.ticking-h.now, func() { h.decide(func() { h.alloc.Tick(h.now) }) })
}

// wake is a message of the agent's to a process, sent when its decision is over.
func (h *host) wake(pid, _ int) {
	h.out.wakes++
	h.out.messages += h.message
	h.woken = append(h.woken, pid)
}
