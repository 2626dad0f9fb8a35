package transport

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// An attempt is the context of its own request, and costs as little as is asked
// of it. Most bases ask for Done: then one of package context stands behind it.
// Over net/http's Transport none does: it would keep its children in a map, of
// which net/http makes one for each request, and in the memory of a service
// that map was the dearest single part of a call. Only there, because over
// another base the child may stand below a context that the base has put around
// ours, to carry a value, and package context then needs a goroutine for each
// child of one that is not its own.

// ending is whether a context has ended, and as what.
type ending uint8

const (
	alive ending = iota
	cancelled
	expired // by the deadline of the caller's
)

// makeContext gives the attempt its context.
func (a *attempt) makeContext() {
	a.ctx = a
	if a.c.countsConnections() {
		a.countConnections()
		return
	}
	_, a.direct = a.c.base().(*http.Transport)
}

// Done is closed when the attempt has ended, with its response's body, or the
// caller's context has.
func (a *attempt) Done() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life == nil {
		a.live()
	}
	if done, ok := a.life.(chan struct{}); ok {
		return done
	}
	return a.life.(context.Context).Done()
}

// live makes what Done needs. With the lock.
func (a *attempt) live() {
	caller := a.c.ctx
	if !a.direct {
		ctx, cancel := context.WithCancelCause(caller)
		a.life = ctx
		if a.over != alive {
			cancel(a.why())
			return
		}
		a.follow(func() {
			a.mu.Lock()
			why := a.why()
			a.mu.Unlock()
			cancel(why)
		})
		return
	}
	done := make(chan struct{})
	a.life = done
	switch {
	case a.over != alive:
		close(done)
	case caller.Done() == nil:
	case caller.Err() != nil: // AfterFunc's goroutine would come too late
		a.over = endOf(caller)
		close(done)
	default:
		stop := context.AfterFunc(caller, a.endContext)
		a.follow(func() { stop() })
	}
}

// endContext ends it.
func (a *attempt) endContext() {
	e := endOf(a.c.ctx)
	a.mu.Lock()
	if a.over != alive {
		a.mu.Unlock()
		return
	}
	a.over = e
	if done, ok := a.life.(chan struct{}); ok {
		close(done)
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

// endOf is as what a context ends that ends now, with its caller's or before.
func endOf(caller context.Context) ending {
	if errors.Is(caller.Err(), context.DeadlineExceeded) {
		return expired
	}
	return cancelled
}

// why the attempt was cancelled; nil: it has ended by itself, or with the
// caller. With the lock.
func (a *attempt) why() error {
	if a.struck == nil && a.overtaken.Load() {
		return errOvertaken
	}
	return a.struck
}

// Err says whether, and as what, it has ended. The caller's end is known before
// Done is closed.
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

// Deadline is the caller's. The attempt's own is not known: it moves.
func (a *attempt) Deadline() (time.Time, bool) { return a.c.ctx.Deadline() }

// Value is the caller's, or for package context what stands behind Done.
func (a *attempt) Value(key any) any {
	if !a.direct {
		a.mu.Lock()
		life := a.life
		a.mu.Unlock()
		if ctx, ok := life.(context.Context); ok {
			return ctx.Value(key)
		}
	}
	return a.c.ctx.Value(key)
}

// String keeps fmt from looking into it.
func (a *attempt) String() string { return "transport.attempt" }

// AfterFunc is what package context asks for to end a child of a context that
// is not one of its own. It calls end once the attempt has ended, unless stop
// comes before; end must return at once.
func (a *attempt) AfterFunc(end func()) (stop func() bool) {
	a.mu.Lock()
	f := a.follow(end)
	a.mu.Unlock()
	return f.stop
}

// follower ends with an attempt. Guarded by its lock.
type follower struct {
	of   *attempt
	end  func()
	next *follower
}

// follow has end called when the attempt ends. With the lock.
func (a *attempt) follow(end func()) *follower {
	f := &follower{of: a, end: end}
	if a.over == alive {
		f.next, a.follows = a.follows, f
	} else {
		go end() // who asks may hold a lock that it takes
	}
	return f
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
