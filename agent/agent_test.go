//go:build linux

package agent_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// host is an agent that runs in the test, and can be stopped and started.
type host struct {
	t       testing.TB
	dir     string
	set     atomic.Pointer[policies.Set]
	running *agent.Agent
	stop    func()
}

func newHost(t testing.TB, set *policies.Set) *host {
	h := &host{t: t, dir: t.TempDir()}
	h.set.Store(set)
	h.start()
	t.Cleanup(func() {
		if h.stop != nil {
			h.stop()
		}
	})
	return h
}

func (h *host) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	a := &agent.Agent{
		Socket: filepath.Join(h.dir, "agent.sock"), AdminSocket: filepath.Join(h.dir, "admin.sock"),
		Ledger: filepath.Join(h.dir, "ledger"),
		Load:   func() (*policies.Snapshot, error) { return policies.Compile(h.set.Load()) },
		Ready:  func() { close(ready) },
	}
	go func() { done <- a.Run(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		h.t.Fatalf("the agent did not start: %v", err)
	}
	h.running = a
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("the agent ended with %v", err)
		}
		h.stop = nil
	}
}

// session attaches one more "process" (a session with a page of its own).
func (h *host) session() *client.Session {
	h.t.Helper()
	s := &client.Session{Socket: filepath.Join(h.dir, "agent.sock")}
	h.t.Cleanup(func() { s.Close() })
	s.Attach(h.t.Context())
	if s.Mode() != client.Attached || s.Policies() == nil {
		h.t.Fatalf("mode %s after Attach, want attached, with policies", s.Mode())
	}
	return s
}

func limitsOf(s *client.Session, name string) *client.Limits {
	return s.Limits(name, &s.Policies().Named(name).Policy)
}

func bulkhead(n, waiting int, wait time.Duration) *policies.Set {
	return &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
		"shop": {Bulkhead: &policies.Bulkhead{MaxConcurrent: n, MaxWaiting: waiting, MaxWait: wait}},
	}}
}

// gauge counts what is in flight and remembers the most.
type gauge struct {
	now, most atomic.Int64
}

func (g *gauge) enter() {
	n := g.now.Add(1)
	for {
		m := g.most.Load()
		if n <= m || g.most.CompareAndSwap(m, n) {
			return
		}
	}
}

func (g *gauge) leave() { g.now.Add(-1) }

func TestBulkheadIsShared(t *testing.T) {
	h := newHost(t, bulkhead(3, 100, 20*time.Second))
	var g gauge
	var done [4]atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range done {
		l := limitsOf(h.session(), "shop")
		for range 5 {
			wg.Go(func() {
				for ctx.Err() == nil {
					p, err := l.Acquire(ctx)
					if err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("Acquire: %v", err)
						}
						return
					}
					g.enter()
					<-time.After(time.Millisecond)
					g.leave()
					done[i].Add(1)
					p.Release()
				}
			})
		}
	}
	wg.Wait()
	if g.most.Load() != 3 {
		t.Errorf("at most %d at a time, want exactly the limit of 3", g.most.Load())
	}
	for i := range done {
		if done[i].Load() < 100 {
			t.Errorf("process %d made %d calls, want its share of about a quarter", i, done[i].Load())
		}
	}
}
