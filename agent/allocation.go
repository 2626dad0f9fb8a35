//go:build linux

package agent

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// Allocation is the agent's giving out of limits alone, without sockets,
// processes, clock or file: for simulations of hosts that are not at hand
// (integration/simulate). Times are since a boot of the caller's own. Not for
// use by several goroutines at once.
type Allocation struct {
	// Woken is told of each wake-up that the agent would send: the process has
	// something new in that cell. Nil: nobody is.
	Woken func(pid, cell int)

	alloc     *allocator
	processes map[int]*process
}

// NewAllocation begins with a policy set in force and nothing granted.
func NewAllocation(s *policies.Snapshot) *Allocation {
	words := make([]uint64, ledgerSize/8) // aligned, unlike bytes
	book := &ledger{mem: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), ledgerSize)}
	book.verify()
	a := &Allocation{processes: make(map[int]*process)}
	a.alloc = &allocator{
		ledger: book, policies: s,
		limits: make(map[limitKey]*limit), processes: make(map[identity]*process), hot: make(map[*limit]time.Duration),
		wake: func(p *process, cell int) {
			if a.Woken != nil {
				a.Woken(p.id.pid, cell)
			}
		},
		gone: func(*process, wire.Cell) {},
	}
	return a
}

// Join attaches a process and returns its page, which must stay reachable as
// long as its cells are used. An error means that the ledger is full, or that
// there is no memory.
func (a *Allocation) Join(pid, uid int) (*page.Page, error) {
	p, f, err := page.New()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mapped, err := page.Map(f)
	if err != nil {
		return nil, err
	}
	proc, err := a.alloc.addProcess(identity{pid: pid, uid: uid, start: uint64(pid), ino: p.Inode()}, mapped)
	if err != nil {
		mapped.Close()
		return nil, err
	}
	proc.session = &session{}
	a.processes[pid] = proc
	return p, nil
}

// Open gives a process a cell for a limit. An error says why there is none: no
// such limit, or no room in the page or the ledger.
func (a *Allocation) Open(pid int, upstream string, kind wire.Kind, now time.Duration) (wire.Cell, error) {
	c, ok := a.alloc.open(a.processes[pid], limitKey{upstream, kind}, now)
	if !ok {
		return c, fmt.Errorf("agent: no cell for the %s of %s: %s", kind, upstream, c.Reason)
	}
	return c, nil
}

// Hint is a process's message about one of its cells.
func (a *Allocation) Hint(pid, cell int, now time.Duration) {
	a.alloc.lookAt(a.processes[pid], cell, now)
}

// Tick looks at the limits that are due, and says when to come again; zero:
// not until a hint.
func (a *Allocation) Tick(now time.Duration) (next time.Duration) { return a.alloc.tick(now) }

// Close lets go of the agent's side of all pages.
func (a *Allocation) Close() {
	for _, p := range a.processes {
		p.page.Close()
	}
}
