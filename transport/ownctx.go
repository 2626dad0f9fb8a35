package transport

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Over net/http's Transport an attempt is the context of its own request. One
// made by package context keeps its children in a map, of which net/http makes
// one for each request: in the memory of a service that map was the dearest
// single part of a call. Over a base of another kind the child may stand below
// a context that the base has put around ours, to carry a value; package
// context then needs a goroutine for each, unless ours is one of its own.

// ending is whether a context has ended, and as what.
type ending uint8

const (
	alive ending = iota
	cancelled
	expired // by the deadline of the caller's
)

// makeContext gives the attempt its context.
func (a *attempt) makeContext() {
	c := a.c
	counts := c.countsConnections()
	if _, plain := c.base().(*http.Transport); !plain || counts {
		a.ctx, a.cancel = context.WithCancelCause(c.ctx)
		if counts {
			a.countConnections()
		}
		return
	}
	a.ctx = a
	if c.ctx.Done() == nil {
		return
	}
	stop := context.AfterFunc(c.ctx, func() { a.endContext(nil) })
	a.AfterFunc(func() { stop() })
	if c.ctx.Err() != nil { // AfterFunc's goroutine may come too late
		a.endContext(nil)
	}
}

// endContext ends it; why is its cause where package context made it.
func (a *attempt) endContext(why error) {
	if a.cancel != nil {
		a.cancel(why)
		return
	}
	e := cancelled
	if errors.Is(a.c.ctx.Err(), context.DeadlineExceeded) {
		e = expired
	}
	a.mu.Lock()
	if a.over != alive {
		a.mu.Unlock()
		return
	}
	a.over = e
	if a.done != nil {
		close(a.done)
	}
	f := a.follows
	a.follows = nil
	a.mu.Unlock()
	for f != nil {
		next := f.next
		f.end()
		f = next
	}
}

// Deadline is the caller's. The attempt's own is not known: it moves.
func (a *attempt) Deadline() (time.Time, bool) { return a.c.ctx.Deadline() }

// Value is the caller's.
func (a *attempt) Value(key any) any { return a.c.ctx.Value(key) }

// Done is closed when the attempt has ended, with its response's body.
func (a *attempt) Done() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done == nil {
		a.done = make(chan struct{})
		if a.over != alive {
			close(a.done)
		}
	}
	return a.done
}

// Err says whether, and as what. The caller's end is known before Done is
// closed.
func (a *attempt) Err() error {
	a.mu.Lock()
	over := a.over
	a.mu.Unlock()
	switch over {
	case cancelled:
		return context.Canceled
	case expired:
		return context.DeadlineExceeded
	}
	return a.c.ctx.Err()
}

// String keeps fmt from looking into it.
func (a *attempt) String() string { return "transport.attempt" }

// AfterFunc is what package context asks for to end a child of a context that
// is not one of its own. It calls end once the attempt has ended, unless stop
// comes before; end must return at once.
func (a *attempt) AfterFunc(end func()) (stop func() bool) {
	f := &follower{of: a, end: end}
	a.mu.Lock()
	over := a.over != alive
	if !over {
		f.next, a.follows = a.follows, f
	}
	a.mu.Unlock()
	if over {
		go end() // the caller may hold a lock that it takes
	}
	return f.stop
}

// follower ends with an attempt. Guarded by its lock.
type follower struct {
	of   *attempt
	end  func()
	next *follower
}

// stop says whether it comes before the end, and for the first time.
func (f *follower) stop() bool {
	a := f.of
	a.mu.Lock()
	defer a.mu.Unlock()
	for at := &a.follows; *at != nil; at = &(*at).next {
		if *at == f {
			*at = f.next
			return true
		}
	}
	return false
}
