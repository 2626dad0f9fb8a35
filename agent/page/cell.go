package page

import "sync/atomic"

// Max is the largest count a cell holds.
const Max = 1<<24 - 1

// Closed is the epoch of a cell that nobody may use: a new one, or one that
// its process has left. Nothing matches it.
const Closed = 0

// tries bounds the agent's loops on a word that a process changes all the
// time, by mistake or on purpose.
const tries = 64

// Cell counts what one process has of one limit. Both sides use it at the
// same time; every method is one atomic step. Counts below zero are refused. The zero Cell is closed.
type Cell struct {
	word     atomic.Uint64
	target   atomic.Uint64
	waiting  atomic.Uint64
	extra    atomic.Uint64
	deposits atomic.Uint64
	pending  atomic.Uint64
	sent     atomic.Uint64
	unsent   atomic.Uint64
}

// Word is one reading of a cell.
type Word struct {
	Epoch            uint16
	Available, InUse int
}

func unpack(w uint64) Word {
	return Word{Epoch: uint16(w >> 48), Available: int(w >> 24 & Max), InUse: int(w & Max)}
}

func pack(w Word) uint64 {
	return uint64(w.Epoch)<<48 | uint64(w.Available)<<24 | uint64(w.InUse)
}

// Read returns the word as it is now.
func (c *Cell) Read() Word { return unpack(c.word.Load()) }

// change replaces the word by what f makes of it, until f refuses. No
// arithmetic reaches a neighbouring field: f's result is checked.
func (c *Cell) change(epoch uint16, limit int, f func(Word) (Word, bool)) bool {
	for i := 0; limit == 0 || i < limit; i++ {
		old := c.word.Load()
		w := unpack(old)
		if w.Epoch != epoch || epoch == Closed {
			return false
		}
		next, ok := f(w)
		if !ok || next.Available < 0 || next.InUse < 0 || next.Available > Max || next.InUse > Max {
			return false
		}
		if c.word.CompareAndSwap(old, pack(next)) {
			return true
		}
	}
	return false
}

// Acquire moves n from available to in use, while no more than the target is
// in use. The process's side.
func (c *Cell) Acquire(epoch uint16, n int) bool {
	for {
		old := c.word.Load()
		w := unpack(old)
		if w.Epoch != epoch || epoch == Closed || n < 0 || w.Available < n || w.InUse+n > c.Target(epoch) {
			return false
		}
		if c.word.CompareAndSwap(old, old-uint64(n)<<24+uint64(n)) {
			return true
		}
	}
}

// Release moves n from in use back to available, if the cell is still of this
// epoch and has n in use. The process's side.
func (c *Cell) Release(epoch uint16, n int) bool {
	for {
		old := c.word.Load()
		w := unpack(old)
		if w.Epoch != epoch || epoch == Closed || n < 0 || w.InUse < n || w.Available+n > Max {
			return false
		}
		if c.word.CompareAndSwap(old, old+uint64(n)<<24-uint64(n)) {
			return true
		}
	}
}

// Take uses up n that were available: a rate token is spent, not borrowed.
// The process's side.
func (c *Cell) Take(epoch uint16, n int) bool {
	return c.change(epoch, 0, func(w Word) (Word, bool) { w.Available -= n; return w, n >= 0 })
}

// Consume uses up n that were in use: a retry's reservation that failed. The
// process's side.
func (c *Cell) Consume(epoch uint16, n int) bool {
	return c.change(epoch, 0, func(w Word) (Word, bool) { w.InUse -= n; return w, n >= 0 })
}

// Close ends the process's use of the cell and returns what was in use. What
// is released later no longer matches the epoch.
func (c *Cell) Close(epoch uint16) (inUse int) {
	for {
		old := c.word.Load()
		w := unpack(old)
		if w.Epoch != epoch || epoch == Closed {
			return 0
		}
		if c.word.CompareAndSwap(old, pack(Word{Epoch: Closed, InUse: w.InUse})) {
			return w.InUse
		}
	}
}

// Grant makes n more available. False: the cell is of another epoch, or would
// overflow; nothing was written. The agent's side.
func (c *Cell) Grant(epoch uint16, n int) bool {
	return c.change(epoch, tries, func(w Word) (Word, bool) { w.Available += n; return w, n >= 0 })
}

// Seize takes up to n of what is available, and returns how much it took. The
// agent's side.
func (c *Cell) Seize(epoch uint16, n int) int {
	took := 0
	ok := c.change(epoch, tries, func(w Word) (Word, bool) {
		took = min(n, w.Available)
		w.Available -= took
		return w, took > 0
	})
	if !ok {
		return 0
	}
	return took
}

// Earn makes n more available as long as there are no more than capacity
// then. For a private cell, which has no agent to keep its level.
func (c *Cell) Earn(epoch uint16, n, capacity int) bool {
	return c.change(epoch, 0, func(w Word) (Word, bool) {
		w.Available += n
		return w, n >= 0 && w.Available+w.InUse <= capacity
	})
}

// Open makes an empty cell of a new epoch, for a new use. The agent's side,
// or the owner's of a private cell; not while anything is in use.
func (c *Cell) Open(epoch uint16) {
	c.pending.Store(0)
	c.SetTarget(epoch, 0)
	c.SetWaiting(epoch, 0)
	c.SetExtra(epoch, 0)
	c.word.Store(pack(Word{Epoch: epoch}))
}

// Target is how many the process should have in use at most. Zero if it was
// written for another epoch.
func (c *Cell) Target(epoch uint16) int { return tagged(c.target.Load(), epoch) }

// Newest is the epoch that the target was last written for: the newest that
// an agent gave the cell, also where the word is closed by now.
func (c *Cell) Newest() uint16 { return uint16(c.target.Load() >> 48) }

// SetTarget is the agent's side of [Cell.Target].
func (c *Cell) SetTarget(epoch uint16, n int) { c.target.Store(tag(epoch, n)) }

// Waiting is how much the process's callers wait for.
func (c *Cell) Waiting(epoch uint16) int { return tagged(c.waiting.Load(), epoch) }

// SetWaiting is the process's side of [Cell.Waiting].
func (c *Cell) SetWaiting(epoch uint16, n int) { c.waiting.Store(tag(epoch, n)) }

// Extra is what the process has in use that this agent never granted: permits
// from before the session, and the floor it used while the agent was away.
func (c *Cell) Extra(epoch uint16) int { return tagged(c.extra.Load(), epoch) }

// SetExtra is the process's side of [Cell.Extra].
func (c *Cell) SetExtra(epoch uint16, n int) { c.extra.Store(tag(epoch, n)) }

// Deposit counts one more token earned by the process.
func (c *Cell) Deposit() { c.deposits.Add(1) }

// Deposits returns that count.
func (c *Cell) Deposits() uint64 { return c.deposits.Load() }

// Wake marks a wake-up as under way. False: one already is. The agent's side.
func (c *Cell) Wake() bool { return c.pending.Swap(1) == 0 }

// Pending: the process has not looked since the last Wake. The agent's side.
func (c *Cell) Pending() bool { return c.pending.Load() != 0 }

// Awake clears the mark. The process's side, before it looks at the word.
func (c *Cell) Awake() { c.pending.Store(0) }

func tag(epoch uint16, n int) uint64 {
	return uint64(epoch)<<48 | uint64(min(max(n, 0), Max))
}

func tagged(v uint64, epoch uint16) int {
	if uint16(v>>48) != epoch {
		return 0
	}
	return int(v & Max)
}
