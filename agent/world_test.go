//go:build linux

package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// world is a host in one goroutine: an allocator over a ledger in memory,
// and processes with real pages. Any step of it can be the agent's last.
type world struct {
	mem     []byte
	id      int // of the ledger
	alloc   *allocator
	now     time.Duration
	set     *policies.Set
	actors  []*actor
	buried  map[*process]time.Duration // dead ones: when they are buried
	starts  uint64
	fuse    int    // the agent is killed before or after so many stores
	mistake string // planted, see planted_test.go
	pick    picker // of the step under way
	missed  error  // of the last meeting

	// what the checks remember
	allowed int // what may be out: the limit, or less than was out when it was lowered
	booked  int // likewise for what the ledger says
	spent   []spending
	rates   []rateOf
	kept    map[cellID]int // ledger slots, also while there is no agent
}

type cellID struct {
	inode uint64
	index int
}

type spending struct {
	at time.Duration
	n  int
}

type rateOf struct {
	from  time.Duration
	every time.Duration
	burst int
}

// kinds, in the order of an actor's gates.
var kinds = [3]wire.Kind{wire.Bulkhead, wire.RateLimit, wire.RetryBudget}

var errKilled = errors.New("the agent was killed")

func newWorld(set *policies.Set) *world {
	w := &world{now: time.Second, set: set, buried: make(map[*process]time.Duration), kept: make(map[cellID]int)}
	w.mem = newMemory()
	w.pick = func(int) int { return 0 }
	if b := set.Upstreams["u"].Bulkhead; b != nil {
		w.allowed, w.booked = b.MaxConcurrent, b.MaxConcurrent
	}
	w.hook()
	w.boot()
	return w
}

func newMemory() []byte {
	words := make([]uint64, ledgerSize/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), ledgerSize)
}

// policy is a set with all three limits; zero leaves one out.
func policy(permits int, rate policies.Rate, burst, budget int) *policies.Set {
	p := policies.Policy{RetryBudget: &policies.RetryBudget{Disabled: budget == 0, Capacity: budget}}
	if permits > 0 {
		p.Bulkhead = &policies.Bulkhead{MaxConcurrent: permits}
	}
	if rate > 0 {
		p.RateLimit = &policies.RateLimit{Rate: rate, Burst: burst}
	}
	return &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"u": p}}
}

func compiled(set *policies.Set) *policies.Snapshot {
	s, err := policies.Compile(set)
	if err != nil {
		panic(err)
	}
	return s
}

// boot starts an agent over the ledger there is.
func (w *world) boot() {
	book := &ledger{mem: w.mem, id: fmt.Sprint(w.id)}
	if err := book.verify(); err != nil {
		panic(err)
	}
	if book.lost = book.recovery() > 0; book.lost {
		book.setRecovery(w.now + recovering)
	}
	book.stored = w.stored
	a := &allocator{
		ledger: book, policies: compiled(w.set),
		limits: make(map[limitKey]*limit), processes: make(map[identity]*process), hot: make(map[*limit]time.Duration),
		wake: w.wake,
		gone: w.gone,
	}
	if book.lost {
		a.recoverUntil = book.recovery()
	}
	w.alloc = a
	w.agent(func() {
		a.restore(w.now)
		for id, p := range a.processes {
			if !slices.ContainsFunc(w.actors, func(one *actor) bool { return one.id == id }) || w.mistake == "restart frees" {
				a.die(p)
				w.buried[p] = w.now + settle
			}
		}
		a.setPolicies(a.policies, w.now)
	})
}

// bootLost starts an agent that finds no ledger.
func (w *world) bootLost() {
	w.mem = newMemory()
	w.id++
	clear(w.kept)
	book := &ledger{mem: w.mem}
	book.setRecovery(w.now + recovering)
	w.boot()
}

// agent does one thing of the agent's, which may be its last.
func (w *world) agent(f func()) {
	if w.alloc == nil {
		return
	}
	defer func() {
		switch r := recover(); r {
		case nil:
			w.keep()
		case errKilled:
			w.kill()
		default:
			panic(r)
		}
	}()
	f()
}

// keep remembers where the ledger says what.
func (w *world) keep() {
	clear(w.kept)
	for _, p := range w.alloc.processes {
		for _, h := range p.holders {
			w.kept[cellID{p.id.ino, h.cell}] = h.slot
		}
	}
}

// stored is the ledger's word on each store.
func (w *world) stored(at int, v uint64, done bool) {
	if w.fuse > 0 {
		if w.fuse--; w.fuse == 0 {
			panic(errKilled)
		}
	}
}

// kill ends the agent.
func (w *world) kill() {
	w.alloc, w.fuse = nil, 0
	clear(w.kept)
	book := &ledger{mem: w.mem}
	for i := range book.used() {
		if e, ok := book.entry(i); ok {
			id, _ := book.process(e.process)
			w.kept[cellID{id.ino, e.cell}] = i
		}
	}
	clear(w.buried)
	for _, a := range w.actors {
		a.attached, a.proc = false, nil
		a.gates[0].told = 0 // extra is in no ledger
		if a.agents != nil {
			a.agents.Close()
			a.agents = nil
		}
	}
}

// gone is the agent's word that a limit is not shared any more.
func (w *world) gone(p *process, c wire.Cell) {
	for _, a := range w.actors {
		if a.proc == p {
			g := &a.gates[slices.Index(kinds[:], c.Kind)]
			g.bound, g.told = false, 0
		}
	}
}

// connect makes a session, or takes over the one there is.
func (w *world) connect(a *actor) {
	if w.alloc == nil {
		return
	}
	if a.page == nil || a.ledger != w.id && !w.alloc.ledger.lost {
		w.freshPage(a)
	}
	var held []wire.Cell
	for k, g := range a.gates {
		if g.bound {
			held = append(held, wire.Cell{Upstream: "u", Kind: kinds[k], Index: g.index, Epoch: g.epoch})
		}
	}
	var accepted []wire.Cell
	w.agent(func() {
		p := w.alloc.processes[a.id]
		if p == nil {
			var err error
			if p, err = w.alloc.addProcess(a.id, nil); err != nil {
				panic(err)
			}
		}
		if a.agents != nil {
			p.session, p.page = nil, nil
			a.agents.Close()
		}
		mapped, err := page.Map(a.file)
		if err != nil {
			panic(err)
		}
		a.agents, a.proc, p.page = mapped, p, mapped
		accepted = w.alloc.takeIn(p, held, w.now)
		p.session = &session{}
	})
	if w.alloc == nil {
		return
	}
	a.attached, a.ledger = true, w.id
	w.settle(a)
	for k := range a.gates {
		g := &a.gates[k]
		if g.bound && !slices.Contains(accepted, wire.Cell{Upstream: "u", Kind: kinds[k], Index: g.index, Epoch: g.epoch}) {
			w.lose(a, k)
		}
		// The policies follow the welcome.
		if _, _, _, ok := limitOf(&w.alloc.policies.Named("u").Policy, kinds[k]); !ok {
			g.bound, g.told = false, 0
		}
		w.tell(a, k)
	}
}

func (w *world) disconnect(a *actor) {
	if !a.attached {
		return
	}
	a.attached = false
	w.agent(func() {
		a.proc.session = nil
		if w.mistake == "freed on EOF while the process lives" && w.alloc.die(a.proc) {
			a.proc.page = nil
			w.alloc.bury(a.proc, w.now)
		}
	})
}

// die ends a process: by its life pipe if the agent is there.
func (w *world) die(a *actor) {
	w.actors = slices.DeleteFunc(w.actors, func(one *actor) bool { return one == a })
	if w.alloc != nil {
		if p := w.alloc.processes[a.id]; p != nil && w.alloc.die(p) {
			w.buried[p] = w.now + settle
		}
	}
	if a.file != nil {
		a.file.Close()
	}
}

// pass lets time go on: the agent looks where it said it would, and buries.
// Processes come back within the time that a lost ledger gives them.
func (w *world) pass(d time.Duration) {
	w.now += d
	if w.alloc != nil && w.now >= w.alloc.recoverUntil && w.now-d < w.alloc.recoverUntil {
		w.now -= d
		for _, a := range slices.Clone(w.actors) {
			a.stopped = false
			if !a.attached {
				w.connect(a)
			}
		}
		w.now += d
	}
	for p, at := range w.buried {
		if at <= w.now && w.alloc != nil {
			delete(w.buried, p)
			w.agent(func() { w.alloc.bury(p, w.now) })
		}
	}
	w.agent(func() {
		w.alloc.recovered(w.now)
		w.alloc.tick(w.now)
	})
}

// reload puts another set in force.
func (w *world) reload(set *policies.Set) {
	w.set = set
	if set.Upstreams["u"].RateLimit == nil {
		w.spent = nil // there is no limit for a while
	}
	w.agent(func() {
		w.alloc.setPolicies(compiled(set), w.now)
	})
}
