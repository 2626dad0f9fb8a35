package idempotency

import (
	"context"
	"sync/atomic"
)

// Run is what a handler can know of the run it is in, and say about it. It is
// safe for concurrent use.
type Run struct {
	// Key as the client sent it, without quotes.
	Key string
	// ID of the key within its scope. It fits as the unique key of what the
	// handler writes: a second run then finds what the first has done.
	ID ID
	// Token of the run: the larger of two is the later run's.
	Token uint64
	// Again says that an earlier run of this key was begun, and that nobody
	// knows how it ended: its process died, it panicked, it lost its lease, or
	// it answered 502 or 504. It may have had its effect: look, before you have
	// it again.
	Again bool

	forget atomic.Bool
}

// Forget says that nothing has been done: whatever the handler answers is not
// stored, and the key is free again. It is for refusals before the first
// effect (validation), which the client may mend and send again.
func (r *Run) Forget() { r.forget.Store(true) }

// runKey is where a context has its Run.
type runKey struct{}

// FromContext gives the run of a handler's context; nil if the request has no
// key, or is not one that a Handler looks after. Forget must not be called
// on nil.
func FromContext(ctx context.Context) *Run {
	run, _ := ctx.Value(runKey{}).(*Run)
	return run
}

// WithRun gives a context the run that FromContext finds: for tests of
// handlers and of stores.
func WithRun(ctx context.Context, run *Run) context.Context {
	return context.WithValue(ctx, runKey{}, run)
}
