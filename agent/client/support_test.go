package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/resagent/resagent/policies"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// resolved is what a policy becomes in a set.
func resolved(t testing.TB, p policies.Policy) *policies.Policy {
	t.Helper()
	s, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"a": p}})
	if err != nil {
		t.Fatalf("the test's policy: %v", err)
	}
	return &s.Named("a").Policy
}

// bulkhead of n permits; a negative number of waiters, or wait, is none.
func bulkhead(n, waiting int, wait time.Duration) policies.Policy {
	return policies.Policy{Bulkhead: &policies.Bulkhead{MaxConcurrent: n, MaxWaiting: waiting, MaxWait: wait}}
}

// caller is one Acquire in a goroutine of its own. Its fields are set when
// done is closed.
type caller struct {
	permit Permit
	err    error
	took   time.Duration
	done   chan struct{}
	cancel context.CancelCauseFunc
}

// acquire begins an Acquire, and returns when it is over or waits.
func acquire(t testing.TB, l *Limits) *caller {
	ctx, cancel := context.WithCancelCause(t.Context())
	c := &caller{cancel: cancel, done: make(chan struct{})}
	began := time.Now()
	go func() {
		c.permit, c.err = l.Acquire(ctx)
		c.took = time.Since(began)
		close(c.done)
	}()
	synctest.Wait()
	return c
}

// over reports whether the caller has its answer.
func (c *caller) over() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// has checks that the caller holds a permit; waits, that it has no answer.
func (c *caller) has(t testing.TB, what string) {
	t.Helper()
	if !c.over() {
		t.Fatalf("%s: still waits; want a permit", what)
	} else if c.err != nil {
		t.Fatalf("%s: %v; want a permit", what, c.err)
	}
}

func (c *caller) waits(t testing.TB, what string) {
	t.Helper()
	if c.over() {
		t.Fatalf("%s: error %v after %v; want it to wait", what, c.err, c.took)
	}
}

// refused checks the reason, and when it came.
func (c *caller) refused(t testing.TB, what string, why Reason, after time.Duration) {
	t.Helper()
	if !c.over() {
		t.Fatalf("%s: still waits; want %q after %v", what, why, after)
	}
	wantRefused(t, what, c.err, why)
	if c.took != after {
		t.Fatalf("%s: refused after %v, want %v", what, c.took, after)
	}
}

func wantRefused(t testing.TB, what string, err error, why Reason) *Refused {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || r.Reason != why {
		t.Fatalf("%s: %v, want %q", what, err, why)
	}
	return r
}
