package page

import (
	"fmt"
	"testing"
)

// operation is one method of a cell beside what it should do to a plain word.
type operation struct {
	name string
	cell func(c *Cell, epoch uint16, n int) int
	// model returns the result, and the word afterwards. target and limit are
	// those of the cell.
	model func(w Word, epoch uint16, n, target int) (int, Word)
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// only is a model that changes the word if the epoch fits, n is no less than
// zero, and nothing leaves its bounds.
func only(change func(w Word, n, target int) (Word, bool)) func(Word, uint16, int, int) (int, Word) {
	return func(w Word, epoch uint16, n, target int) (int, Word) {
		if epoch == Closed || w.Epoch != epoch || n < 0 {
			return 0, w
		}
		next, ok := change(w, n, target)
		if !ok || next.Available < 0 || next.InUse < 0 || next.Available > Max || next.InUse > Max {
			return 0, w
		}
		return 1, next
	}
}

const earnCapacity = 3

var operations = []operation{
	{"Acquire", func(c *Cell, e uint16, n int) int { return truth(c.Acquire(e, n)) },
		only(func(w Word, n, target int) (Word, bool) {
			return Word{w.Epoch, w.Available - n, w.InUse + n}, w.InUse+n <= target
		})},
	{"Release", func(c *Cell, e uint16, n int) int { return truth(c.Release(e, n)) },
		only(func(w Word, n, _ int) (Word, bool) { return Word{w.Epoch, w.Available + n, w.InUse - n}, true })},
	{"Take", func(c *Cell, e uint16, n int) int { return truth(c.Take(e, n)) },
		only(func(w Word, n, _ int) (Word, bool) { return Word{w.Epoch, w.Available - n, w.InUse}, true })},
	{"Consume", func(c *Cell, e uint16, n int) int { return truth(c.Consume(e, n)) },
		only(func(w Word, n, _ int) (Word, bool) { return Word{w.Epoch, w.Available, w.InUse - n}, true })},
	{"Grant", func(c *Cell, e uint16, n int) int { return truth(c.Grant(e, n)) },
		only(func(w Word, n, _ int) (Word, bool) { return Word{w.Epoch, w.Available + n, w.InUse}, true })},
	{"Earn", func(c *Cell, e uint16, n int) int { return truth(c.Earn(e, n, earnCapacity)) },
		only(func(w Word, n, _ int) (Word, bool) {
			return Word{w.Epoch, w.Available + n, w.InUse}, w.Available+n+w.InUse <= earnCapacity
		})},
	{"Seize", func(c *Cell, e uint16, n int) int { return c.Seize(e, n) },
		func(w Word, epoch uint16, n, _ int) (int, Word) {
			took := max(0, min(n, w.Available))
			if epoch == Closed || w.Epoch != epoch {
				took = 0
			}
			return took, Word{w.Epoch, w.Available - took, w.InUse}
		}},
	{"Close", func(c *Cell, e uint16, _ int) int { return c.Close(e) },
		func(w Word, epoch uint16, _, _ int) (int, Word) {
			if epoch == Closed || w.Epoch != epoch {
				return 0, w
			}
			return w.InUse, Word{Closed, 0, w.InUse}
		}},
}

// Every operation on every small word, and on those at the ends of each field,
// does what the model says, and nothing else: no carry reaches a neighbour.
func TestOperationsAgainstModel(t *testing.T) {
	counts := []int{0, 1, 2, 3, 4, Max - 1, Max}
	epochs := []uint16{Closed, 1, 2, 1<<16 - 1}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			for _, of := range epochs {
				for _, available := range counts {
					for _, inUse := range counts {
						for _, target := range counts {
							for _, n := range append(counts, -1) {
								for _, epoch := range epochs {
									before := Word{of, available, inUse}
									tryOperation(t, op, before, target, epoch, n)
								}
							}
						}
					}
				}
			}
		})
	}
}

func tryOperation(t *testing.T, op operation, before Word, target int, epoch uint16, n int) {
	t.Helper()
	var c Cell
	c.SetTarget(before.Epoch, target)
	c.word.Store(pack(before))
	if before.Epoch != epoch {
		target = 0 // written for another epoch
	}
	result := op.cell(&c, epoch, n)
	want, after := op.model(before, epoch, n, target)
	if got := c.Read(); got != after || result != want {
		t.Fatalf("%s(epoch %d, %d) of %+v with target %d: %d and %+v, want %d and %+v", op.name, epoch, n, before, target, result, got, want, after)
	}
}

func TestPackingIsLossless(t *testing.T) {
	for _, epoch := range []uint16{0, 1, 0x8000, 0xffff} {
		for _, available := range []int{0, 1, Max - 1, Max} {
			for _, inUse := range []int{0, 1, Max - 1, Max} {
				w := Word{epoch, available, inUse}
				if got := unpack(pack(w)); got != w {
					t.Errorf("%+v becomes %+v", w, got)
				}
			}
		}
	}
}

// What was written for one epoch says nothing in another, and no count leaves
// its 24 bits.
func TestTaggedWords(t *testing.T) {
	var c Cell
	for name, word := range map[string]struct {
		set func(uint16, int)
		get func(uint16) int
	}{
		"target":  {c.SetTarget, c.Target},
		"waiting": {c.SetWaiting, c.Waiting},
		"extra":   {c.SetExtra, c.Extra},
	} {
		for _, n := range []int{-1, 0, 1, Max, Max + 1, 1 << 40} {
			word.set(7, n)
			if got, want := word.get(7), min(max(n, 0), Max); got != want {
				t.Errorf("%s set to %d reads %d, want %d", name, n, got, want)
			}
			if got := word.get(8); got != 0 {
				t.Errorf("%s of epoch 7 reads %d for epoch 8, want 0", name, got)
			}
		}
	}
}

func TestZeroCellIsClosed(t *testing.T) {
	var c Cell
	if c.Grant(Closed, 1) || c.Acquire(Closed, 0) || c.Release(Closed, 0) || c.Take(Closed, 0) {
		t.Errorf("a closed cell was used: %+v", c.Read())
	}
}

// A cell used again has a new epoch: what an old holder does changes nothing,
// and what stood beside the word says nothing any more.
func TestOpenForgetsTheEarlierUse(t *testing.T) {
	var c Cell
	c.Open(1)
	c.SetTarget(1, 5)
	c.SetWaiting(1, 4)
	c.SetExtra(1, 3)
	c.Grant(1, 2)
	c.Acquire(1, 1)
	c.Wake()
	c.Deposit()
	c.Open(2)
	if w := c.Read(); w != (Word{Epoch: 2}) {
		t.Errorf("a reopened cell holds %+v, want nothing", w)
	}
	if c.Target(2) != 0 || c.Waiting(2) != 0 || c.Extra(2) != 0 || c.Pending() {
		t.Errorf("target %d, waiting %d, extra %d, pending %v after Open, want none", c.Target(2), c.Waiting(2), c.Extra(2), c.Pending())
	}
	if c.Release(1, 1) || c.Close(1) != 0 || c.Seize(1, 1) != 0 || c.Grant(1, 1) || c.Consume(1, 1) {
		t.Errorf("a holder of the earlier epoch changed the cell: %+v", c.Read())
	}
	if c.Deposits() != 1 {
		t.Errorf("%d deposits after Open, want the 1 there was: the count only grows", c.Deposits())
	}
}

func TestWakeIsOneBit(t *testing.T) {
	var c Cell
	got := fmt.Sprint(c.Pending(), c.Wake(), c.Wake(), c.Pending())
	c.Awake()
	got += fmt.Sprint(c.Pending(), c.Wake())
	if want := "false true false true" + "false true"; got != want {
		t.Errorf("pending and wake say %s, want %s", got, want)
	}
}

// A process that changes its word all the time cannot keep the agent: its
// loops are bounded.
func TestAgentsLoopsAreBounded(t *testing.T) {
	var c Cell
	c.Open(1)
	rounds := 0
	ok := c.change(1, tries, func(w Word) (Word, bool) {
		rounds++
		c.word.Add(1) // the process comes in between, every time
		w.Available++
		return w, true
	})
	if ok || rounds != tries {
		t.Errorf("the loop ended with %v after %d rounds, want false after %d", ok, rounds, tries)
	}
}
