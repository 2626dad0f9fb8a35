package transport

import (
	"context"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
	"unique"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// table is one snapshot with this transport's state for its upstreams.
type table struct {
	snapshot *policies.Snapshot // nil: no policies at all
	shared   *shared
	states   []atomic.Pointer[upstream] // by policies.Upstream.Index
	last     atomic.Pointer[authority]  // the newest that no policy names
}

// upstream is a policy at work.
type upstream struct {
	name   string
	policy *policies.Policy
	limits *client.Limits
	base   http.RoundTripper         // its own connection pool; nil: the transport's base
	last   atomic.Pointer[authority] // that was called

	circuit unique.Handle[string] // of its places

	p95    p95 // of its GETs and HEADs, if it is hedged after that
	hedges allowance
}

// tableFor gives the table of the policies that are in force now.
func (t *Transport) tableFor(s *client.Session) *table {
	snap := s.Policies()
	if snap == nil {
		snap = t.Policies
	}
	if tab := t.table.Load(); tab != nil && tab.snapshot == snap {
		return tab
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if tab := t.table.Load(); tab != nil && tab.snapshot == snap {
		return tab
	}
	tab := &table{snapshot: snap, shared: s.Shared(newShared).(*shared)}
	if snap != nil {
		tab.states = make([]atomic.Pointer[upstream], snap.Len())
	}
	t.table.Store(tab)
	t.retirePools(snap)
	return tab
}

// find gives the upstream and the authority of a request.
func (t *Transport) find(s *client.Session, tab *table, req *http.Request, now time.Time) (*upstream, *authority) {
	named := t.named(tab, req)
	if named == nil {
		a := remembered(&tab.last, req.URL)
		if a == nil {
			a = tab.shared.authority(s, req.URL, nil, now)
			tab.last.Store(a)
		}
		a.touch(now)
		return a.up, a
	}
	up := tab.states[named.Index].Load()
	if up == nil {
		up = t.state(req.Context(), s, tab, named)
	}
	a := remembered(&up.last, req.URL)
	if a == nil {
		a = tab.shared.authority(s, req.URL, up, now)
		up.last.Store(a)
	}
	a.touch(now)
	return up, a
}

// remembered spares a second look at the authorities when the same one is
// called again, in the same letters.
func remembered(p *atomic.Pointer[authority], u *url.URL) *authority {
	if a := p.Load(); a != nil && a.host == u.Host && a.scheme == u.Scheme {
		return a
	}
	return nil
}

// named gives the policy's upstream: the one in the context, else the one that
// matches.
func (t *Transport) named(tab *table, req *http.Request) *policies.Upstream {
	name, _ := req.Context().Value(upstreamKey{}).(string)
	if tab.snapshot == nil {
		if name != "" {
			t.notApplied(req.Context(), name, "no policies; its authority is the upstream")
		}
		return nil
	}
	if name != "" {
		if up := tab.snapshot.Named(name); up != nil {
			return up
		}
		t.notApplied(req.Context(), name, "no upstream of this name; its URL decides")
	}
	return tab.snapshot.Lookup(req.Method, req.URL)
}

// state makes an upstream's state at its first call under a snapshot.
func (t *Transport) state(ctx context.Context, s *client.Session, tab *table, named *policies.Upstream) *upstream {
	up, made, problem := t.makeState(s, tab, named)
	if made && problem != "" {
		t.notApplied(ctx, up.name, problem)
	}
	return up
}

func (t *Transport) makeState(s *client.Session, tab *table, named *policies.Upstream) (up *upstream, made bool, problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := &tab.states[named.Index]
	if up := slot.Load(); up != nil {
		return up, false, ""
	}
	p := &named.Policy
	up = &upstream{name: named.Name, policy: p, circuit: circuitOf(p.CircuitBreaker), limits: s.Limits(named.Name, p)}
	up.base, problem = t.pool(named.Name, p)
	slot.Store(up)
	return up, true, problem
}

// notApplied says once for each name that a policy was not applied.
func (t *Transport) notApplied(ctx context.Context, name, detail string) {
	const maxNames = 1024 // names come from callers too
	t.mu.Lock()
	told := t.told[name] || len(t.told) >= maxNames
	if !told {
		if t.told == nil {
			t.told = map[string]bool{}
		}
		t.told[name] = true
	}
	t.mu.Unlock()
	if !told {
		t.tell(Event{Kind: NotApplied, Context: ctx, Upstream: name, Detail: detail})
	}
}
