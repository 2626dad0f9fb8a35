package transport

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// lifetime is the context of an attempt, and costs what is asked of it. Most
// bases ask for Done: then one of package context stands in. Over net/http's
// Transport none does: it would keep its children in a map, of which net/http
// makes one for each request, and in the memory of a service that map was the
// dearest single part of a call. Only there, because over another base the
// child may stand below a context that the base has put around ours, to carry a
// value, and package context then needs a goroutine for each child of one that
// is not its own.
//
// It is not a part of its attempt: net/http keeps contexts, for connections
// that it waits for, longer than calls, and a call has the caller's body.
type lifetime struct {
	caller context.Context
	t      *Transport
	direct bool // the base is net/http's, and nothing is around this

	over    ending
	mu      sync.Mutex // guards over, and what follows
	life    any        // nil: nobody has asked for Done; its channel, or a *packaged
	follows *follower  // what ends with it
}

// ending is whether a context has ended, and how.
type ending uint8

const (
	alive     ending = iota
	cancelled        // by the attempt
	left             // with the caller's
)

// packaged is a context of package context.
type packaged struct {
	context.Context
	cancel context.CancelCauseFunc
}

// newLifetime makes it for an attempt of c.
func newLifetime(c *call) *lifetime {
	_, plain := c.base().(*http.Transport)
	return &lifetime{caller: c.ctx, t: c.t, direct: plain && !c.countsConnections()}
}

// context is that of the attempt's request: its lifetime, or one with a hook
// around it.
func (a *attempt) context() context.Context {
	if !a.life.direct && a.c.countsConnections() {
		return a.countConnections()
	}
	return a.life
}

// cause is why the attempt's context has ended.
func (a *attempt) cause() error {
	a.mu.Lock()
	struck := a.struck
	a.mu.Unlock()
	if struck != nil {
		return struck
	}
	return context.Cause(a.life)
}

// Done is closed when the attempt has ended, with its response's body, or the
// caller's context has.
func (l *lifetime) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.life == nil {
		l.live()
	}
	if done, ok := l.life.(chan struct{}); ok {
		return done
	}
	return l.life.(*packaged).Done()
}

// live makes what Done needs. With the lock.
func (l *lifetime) live() {
	if !l.direct {
		s := &packaged{}
		s.Context, s.cancel = context.WithCancelCause(l.caller)
		l.life = s
		if l.over != alive {
			s.cancel(nil)
		}
		return
	}
	done := make(chan struct{})
	l.life = done
	switch {
	case l.over != alive:
		close(done)
	case l.caller.Done() == nil:
	case l.caller.Err() != nil: // AfterFunc's goroutine would come too late
		l.over = left
		close(done)
	default:
		stop := context.AfterFunc(l.caller, func() { l.end(nil) })
		l.follow(func() { stop() })
	}
}

// end ends it. why is the cause; net/http's Transport is not told.
func (l *lifetime) end(why error) {
	over := cancelled
	if l.caller.Err() != nil {
		over = left
	}
	l.mu.Lock()
	if l.over != alive {
		l.mu.Unlock()
		return
	}
	if why != nil && l.life == nil && !l.direct {
		l.live() // who asks later has to hear of it
	}
	l.over = over
	if done, ok := l.life.(chan struct{}); ok {
		close(done)
	}
	s, _ := l.life.(*packaged)
	f := l.follows
	l.follows = nil
	l.mu.Unlock()
	if s != nil {
		s.cancel(why)
	}
	for f != nil {
		next := f.next
		f.end()
		f = next
	}
}

// Err says whether, and how, it has ended.
func (l *lifetime) Err() error {
	l.mu.Lock()
	s, _ := l.life.(*packaged)
	l.mu.Unlock()
	if s != nil {
		return s.Err()
	}
	err := l.caller.Err()
	if err != nil {
		l.end(nil) // AfterFunc's goroutine may be on its way
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.over {
	case cancelled:
		return context.Canceled
	case left:
		return err
	}
	return nil
}

// Deadline is the caller's. The attempt's own is not known: it moves.
func (l *lifetime) Deadline() (time.Time, bool) { return l.caller.Deadline() }

// Value is the caller's, or for package context what stands in.
func (l *lifetime) Value(key any) any {
	if key == (within{l.t}) {
		return l.t
	}
	if !l.direct {
		l.mu.Lock()
		s, _ := l.life.(*packaged)
		l.mu.Unlock()
		if s != nil {
			return s.Value(key)
		}
	}
	return l.caller.Value(key)
}

// String keeps fmt from looking into it.
func (l *lifetime) String() string { return "transport.lifetime" }

// AfterFunc is what package context asks for to end a child of a context that
// is not one of its own. It calls end once this has ended, unless stop comes
// before; end must return at once.
func (l *lifetime) AfterFunc(end func()) (stop func() bool) {
	l.mu.Lock()
	f := l.follow(end)
	l.mu.Unlock()
	return f.stop
}

// follower ends with a lifetime. Guarded by its lock.
type follower struct {
	of   *lifetime
	end  func()
	next *follower
}

// follow has end called at the end. With the lock.
func (l *lifetime) follow(end func()) *follower {
	f := &follower{of: l, end: end}
	if l.over == alive {
		f.next, l.follows = l.follows, f
	} else {
		go end() // who asks may hold a lock that it takes
	}
	return f
}

// stop says whether it comes before the end, and for the first time.
func (f *follower) stop() bool {
	l := f.of
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := &l.follows; *at != nil; at = &(*at).next {
		if *at == f {
			*at = f.next
			return true
		}
	}
	return false
}
