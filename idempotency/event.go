package idempotency

import (
	"context"
	"time"
)

// Event is one thing that a Handler decided. Fields that do not apply are
// zero.
type Event struct {
	Kind Kind
	// Context of the request. It must not be kept.
	Context context.Context
	// ID of the key; zero where there is none, or it is malformed.
	ID ID
	// Status that was answered.
	Status int
	// Took is how long the handler ran.
	Took time.Duration
	Err  error
}

// Kind of an [Event].
type Kind uint8

const (
	Started  Kind = iota + 1 // the handler is run
	Repeated                 // the handler is run again, after a run that never ended
	Stored                   // its answer is stored
	Unstored                 // the key is free for the next run: Run.Forget, a status of Options.Release, a panic
	Replay                   // a stored answer was given
	Conflict                 // 409: the first run goes on
	Reused                   // 422: the key belongs to another request
	Rejected                 // 400 or 413: no key, a malformed one, a body that cannot be read or is too large
	Lost                     // the lease was lost to another run while the handler ran
	Failed                   // the store failed; Err says how
	kinds
)

var kindNames = [kinds]string{Started: "started", Repeated: "repeated", Stored: "stored", Unstored: "released",
	Replay: "replayed", Conflict: "conflict", Reused: "reused", Rejected: "rejected", Lost: "lost", Failed: "store failed"}

// String names the kind.
func (k Kind) String() string {
	if k >= kinds || kindNames[k] == "" {
		return "unknown"
	}
	return kindNames[k]
}

func (h *handler) tell(e Event) {
	if h.Observe != nil {
		h.Observe(e)
	}
}
