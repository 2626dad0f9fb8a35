package transport

import (
	"errors"
	"fmt"
	"time"
)

// The reasons of a [RejectedError]. Find them with errors.Is, through
// *url.Error too.
var (
	// ErrCircuitOpen: the upstream's circuit is open, or half-open with all
	// its probes under way.
	ErrCircuitOpen = errors.New("circuit open")
	// ErrBulkheadFull: no permit within the bulkhead's max_wait, or no place
	// left to wait in.
	ErrBulkheadFull = errors.New("bulkhead full")
	// ErrRateLimited: no token within the rate limit's max_wait.
	ErrRateLimited = errors.New("rate limited")
	// ErrPaused: the upstream asked, by Retry-After, to be left alone, and the
	// policy says pause: all.
	ErrPaused = errors.New("paused by Retry-After")
)

// ErrRetryBudget is found beside the transport error of a call that would have
// been retried, had the upstream's retry budget not been used up. Where the
// call ended with a response, that is given and Info.Stopped says so.
var ErrRetryBudget = errors.New("retry budget used up")

// What struck a call in time. Each has a Timeout method that returns true, as
// net.Error wants it. A caller's own deadline is not among them: it stays
// context.DeadlineExceeded.
var (
	// ErrAttemptTimeout: no response headers within timeout.attempt.
	ErrAttemptTimeout error = &timeoutError{what: "attempt timeout"}
	// ErrIdleTimeout: the response body was silent for timeout.idle. It comes
	// from the body's Read.
	ErrIdleTimeout error = &timeoutError{what: "idle timeout"}
	// ErrTotalTimeout: no attempt was under way with a moving body, nor could
	// another one begin, when timeout.total had passed.
	ErrTotalTimeout error = &timeoutError{what: "total timeout"}
)

// RejectedError is this host's own no: the upstream was not asked, or not
// asked again.
type RejectedError struct {
	// Upstream by its policy's name, or by its authority if no policy names it.
	Upstream string
	// Reason is one of ErrCircuitOpen, ErrBulkheadFull, ErrRateLimited and
	// ErrPaused.
	Reason error
	// Detail says more, in words that may change.
	Detail string
	// RetryAfter is how long it takes until another try may be let through.
	// Zero: not known.
	RetryAfter time.Duration
	// LastStatus of an earlier attempt of the same call, whose response was
	// too long to be kept. Zero: there was none.
	LastStatus int
	// LastErr of an earlier attempt of the same call, if it ended with one.
	LastErr error
}

// Error names the upstream, the reason and when to come back.
func (e *RejectedError) Error() string {
	s := "transport: " + e.Upstream + ": " + e.Reason.Error()
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	if e.RetryAfter > 0 {
		s += fmt.Sprintf(", try again in %v", e.RetryAfter.Round(time.Millisecond))
	}
	if e.LastStatus != 0 {
		s += fmt.Sprintf("; the last attempt was answered %d", e.LastStatus)
	}
	if e.LastErr != nil {
		s += "; the last attempt: " + e.LastErr.Error()
	}
	return s
}

// Unwrap gives the reason, and the error of the earlier attempt if there is
// one.
func (e *RejectedError) Unwrap() []error {
	if e.LastErr == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.LastErr}
}

// timeoutError is both the sentinels and what is returned in their place, with
// the upstream's name and the time that had passed.
type timeoutError struct {
	what     string
	kind     error // the sentinel; nil in the sentinel itself
	upstream string
	after    time.Duration
}

func (e *timeoutError) Error() string {
	if e.kind == nil {
		return e.what
	}
	return fmt.Sprintf("transport: %s: %s of %v passed", e.upstream, e.what, e.after)
}

func (e *timeoutError) Unwrap() error { return e.kind }
func (*timeoutError) Timeout() bool   { return true }

// Temporary is asked by callers of net.Error.
func (*timeoutError) Temporary() bool { return true }

func newTimeout(kind error, upstream string, after time.Duration) error {
	return &timeoutError{what: kind.Error(), kind: kind, upstream: upstream, after: after}
}

// budgetError says that a transport error was not retried for want of budget.
// It passes Timeout on: *url.Error asks for it by type assertion.
type budgetError struct{ error }

func (e budgetError) Error() string {
	return e.error.Error() + " (not retried: " + ErrRetryBudget.Error() + ")"
}
func (e budgetError) Unwrap() []error { return []error{e.error, ErrRetryBudget} }
func (e budgetError) Timeout() bool {
	t, ok := e.error.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
func (e budgetError) Temporary() bool {
	t, ok := e.error.(interface{ Temporary() bool })
	return ok && t.Temporary()
}

var errNeither = errors.New("transport: the Base returned neither a response nor an error")
