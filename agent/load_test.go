//go:build linux

package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// users keeps so many callers busy in each of several sessions, and counts.
type users struct {
	g      gauge
	wg     sync.WaitGroup
	cancel context.CancelFunc
	all    []*client.Limits
}

func (h *host) busy(t *testing.T, sessions, callers int) *users {
	ctx, cancel := context.WithCancel(t.Context())
	u := &users{cancel: cancel}
	for range sessions {
		l := limitsOf(h.session(), "shop")
		u.all = append(u.all, l)
		for range callers {
			u.wg.Go(func() {
				for ctx.Err() == nil {
					p, err := l.Acquire(ctx)
					if err != nil {
						if ctx.Err() == nil {
							t.Errorf("Acquire: %v", err)
						}
						return
					}
					u.g.enter()
					<-time.After(time.Millisecond)
					u.g.leave()
					p.Release()
				}
			})
		}
	}
	t.Cleanup(u.end)
	return u
}

func (u *users) end() { u.cancel(); u.wg.Wait() }

// quiet waits until everything is free, and checks that it can be had.
func (h *host) quiet(t *testing.T, u *users, limit int) {
	t.Helper()
	u.end()
	until(t, "free", func() bool { l := h.limit(); return l.InUse == 0 && l.Extra == 0 && l.Waiting == 0 })
	var held []client.Permit
	for i := range limit {
		p, err := u.all[i%len(u.all)].Acquire(t.Context())
		if err != nil {
			t.Fatalf("permit %d of %d at the end: %v", i, limit, err)
		}
		held = append(held, p)
	}
	for _, p := range held {
		p.Release()
	}
}

// The agent is stopped and started under load, with its ledger and without:
// never more than the limit, and nobody is refused.
func TestRestartsUnderLoad(t *testing.T) {
	for name, between := range map[string]func(h *host){
		"with its ledger":    func(*host) {},
		"without its ledger": func(h *host) { os.Remove(filepath.Join(h.dir, "ledger")) },
		"with a cut ledger":  func(h *host) { os.Truncate(filepath.Join(h.dir, "ledger"), 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, bulkhead(3, 100, 20*time.Second))
			u := h.busy(t, 3, 4)
			for range 2 {
				until(t, "busy", func() bool { return h.limit().InUse > 0 && h.limit().Processes == 3 })
				h.stop()
				between(h)
				h.start()
				until(t, "all back", func() bool { return len(h.running.Status().Sessions) == 3 })
			}
			if want := name == "with its ledger"; (h.running.Status().Ledger == "kept") != want {
				t.Errorf("the ledger is %s", h.running.Status().Ledger)
			}
			h.quiet(t, u, 3)
			if m := u.g.most.Load(); m != 3 {
				t.Errorf("at most %d at a time, want the limit of 3", m)
			}
		})
	}
}

// A limit that is lowered, raised, made each process's own, removed and given
// back while it is in use is exact again afterwards, and never lost.
func TestReloadsUnderLoad(t *testing.T) {
	h := newHost(t, bulkhead(4, 100, 20*time.Second))
	own := bulkhead(4, 100, 20*time.Second)
	section := *own.Upstreams["shop"].Bulkhead
	section.Scope = policies.ScopeProcess
	own.Upstreams["shop"] = policies.Policy{Bulkhead: &section}
	gone := &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"other": {}}}
	u := h.busy(t, 3, 4)
	for range 5 {
		for _, set := range []*policies.Set{bulkhead(1, 100, 20*time.Second), own, bulkhead(2, 100, 20*time.Second), gone, bulkhead(4, 100, 20*time.Second)} {
			before := h.running.Status().Generation
			h.set.Store(set)
			if done, err := h.running.Reload(); err != nil || !done.Changed || done.Generation != before+1 {
				t.Fatalf("reload: %+v, %v", done, err)
			}
			if set == gone || set == own {
				continue
			}
			until(t, "in use again", func() bool {
				l := h.limit()
				return l.Limit == set.Upstreams["shop"].Bulkhead.MaxConcurrent && l.InUse > 0
			})
		}
	}
	h.quiet(t, u, 4)
	// Now that the past is over the limit is exact.
	again := h.busy(t, 2, 5)
	until(t, "busy", func() bool { return again.g.most.Load() >= 4 })
	h.quiet(t, again, 4)
	if m := again.g.most.Load(); m != 4 {
		t.Errorf("at most %d at a time, want 4", m)
	}
}

// Many retries at once have the budget to themselves, all of it and no more.
func TestBudgetAtOnce(t *testing.T) {
	h := newHost(t, &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"shop": {RetryBudget: &policies.RetryBudget{Capacity: 140}}}})
	a, b := limitsOf(h.session(), "shop"), limitsOf(h.session(), "shop")
	for _, l := range []*client.Limits{a, b} { // each has its cell
		until(t, "a first reservation", func() bool {
			r, ok := l.Reserve(t.Context(), 1)
			r.Refund()
			return ok
		})
	}
	var mu sync.Mutex
	var held []client.Reservation
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			l := a
			if i%2 == 0 {
				l = b
			}
			if r, ok := l.Reserve(t.Context(), 14); ok {
				mu.Lock()
				held = append(held, r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n := len(held); n > 10 || n < 5 {
		t.Errorf("%d retries at once, a budget of 140 has room for 10", n)
	}
	for _, r := range held {
		r.Consume()
	}
	held = nil
	if r, ok := a.Reserve(t.Context(), 141); ok {
		r.Refund()
		t.Error("more than all was reserved")
	}
}

// The level that status shows is what a retry would find now: with what calls
// earned since anybody asked for tokens.
func TestBudgetLevelIsShown(t *testing.T) {
	h := newHost(t, &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"shop": {RetryBudget: &policies.RetryBudget{Capacity: 140}}}})
	l := limitsOf(h.session(), "shop")
	level := func() int {
		for _, one := range h.running.Status().Limits {
			if one.Upstream == "shop" && one.Kind == wire.RetryBudget {
				return one.Level
			}
		}
		return -1
	}
	var held []client.Reservation
	until(t, "all reserved", func() bool {
		r, ok := l.Reserve(t.Context(), 14)
		if ok {
			held = append(held, r)
		}
		return len(held) == 10
	})
	for _, r := range held {
		r.Consume()
	}
	if n := level(); n != 0 {
		t.Errorf("after 10 retries that failed the level is %d, want 0", n)
	}
	for range 50 {
		l.Deposit()
	}
	if n := level(); n != 50 {
		t.Errorf("after 50 successes the level is %d, want 50", n)
	}
}
