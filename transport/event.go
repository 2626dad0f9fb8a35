package transport

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Event is one thing that happened on a call's way. Fields that do not apply
// are zero.
type Event struct {
	Kind Kind
	// Context of the call, or of what goes on of it after a stale answer: a
	// hook finds the caller's trace span in it. It must not be kept.
	Context context.Context
	// Upstream by its policy's name, or by its authority if no policy names it.
	Upstream string
	// Authority is scheme and host of the call.
	Authority string
	// Attempt counts from 1.
	Attempt int
	// Status of the response, 0 if there was none.
	Status int
	Err    error
	// Took is how long an attempt took to its headers or its error, or until
	// it was hedged.
	Took time.Duration
	// Wait is the time until the next attempt, until a circuit lets a probe
	// through, until a call that was refused may be tried again, or for which
	// another call's answer was waited for.
	Wait time.Duration
	// Detail says more, in words that may change.
	Detail string
}

// Kind of an [Event].
type Kind uint8

const (
	Attempted     Kind = iota + 1 // an attempt got its headers or failed
	Retrying                      // another attempt will follow after Wait
	Hedged                        // a second attempt is sent beside one that has taken Took so far
	Stopped                       // an attempt worth repeating is not repeated; Detail says why
	Refused                       // this host said no
	Replayed                      // the base sent a body again by itself
	Revalidated                   // a call in the background has asked for a stored answer anew; Detail is what came of it
	Collapsed                     // another call's answer was given, after Wait
	Cached                        // the cache; Detail: the Source of its answer, or the Fate of the upstream's
	CircuitOpened                 // after this call's outcome
	CircuitClosed                 // after this call's outcome
	Served                        // a fallback answered; Detail is its Source
	NotApplied                    // a part of a policy could not be applied; Detail says which
	Panicked                      // the base panicked in a call without a caller: one that went on with a stale answer, or a revalidation
	kinds
)

var kindNames = [kinds]string{
	Attempted: "attempt", Retrying: "retrying", Hedged: "hedged", Stopped: "not retried", Refused: "refused",
	Replayed: "replayed by the base", Revalidated: "revalidated", Collapsed: "collapsed", Cached: "cache", CircuitOpened: "circuit opened", CircuitClosed: "circuit closed",
	Served: "fallback served", NotApplied: "policy not applied", Panicked: "base panicked",
}

// String names the kind as the log does.
func (k Kind) String() string {
	if k >= kinds || kindNames[k] == "" {
		return "unknown"
	}
	return kindNames[k]
}

// tell hands an event to the hook and, if it is one an operator wants to read,
// to the log. It costs two comparisons where neither is set.
func (t *Transport) tell(e Event) {
	if t.Observe != nil {
		t.Observe(e)
	}
	if t.Logger != nil && e.Kind >= CircuitOpened {
		t.log(e)
	}
}

// log writes at most one line of a kind per second, and counts the others.
func (t *Transport) log(e Event) {
	g := &t.gates[e.Kind]
	now := time.Now().UnixNano()
	last := g.last.Load()
	if last != 0 && now-last < int64(time.Second) || !g.last.CompareAndSwap(last, now) {
		g.skipped.Add(1)
		return
	}
	level := slog.LevelWarn
	switch e.Kind {
	case CircuitClosed:
		level = slog.LevelInfo
	case Panicked:
		level = slog.LevelError
	}
	t.Logger.LogAttrs(e.Context, level, "transport: "+e.Kind.String(),
		slog.String("upstream", e.Upstream), slog.String("authority", e.Authority),
		slog.Int("status", e.Status), slog.Any("err", e.Err), slog.Duration("wait", e.Wait),
		slog.String("detail", e.Detail), slog.Int64("not_logged", g.skipped.Swap(0)))
}

// gate lets one line of a kind through per second.
type gate struct {
	last    atomic.Int64 // Unix nanoseconds
	skipped atomic.Int64
}
