package transport

import (
	"net/http"

	"github.com/resagent/resagent/policies"
)

// pool is an upstream's own connection pool.
type pool struct {
	max       int
	transport *http.Transport
}

// pool gives the connection pool of an upstream with a connections section:
// a clone of the base, kept over policy changes that do not concern it. Nil:
// the base itself; problem says why that is not what the policy
// asks for. Call it with t.mu held.
func (t *Transport) pool(name string, p *policies.Policy) (base http.RoundTripper, problem string) {
	if p.Connections == nil {
		return nil, ""
	}
	if old, ok := t.pools[name]; ok && old.max == p.Connections.MaxPerHost {
		return old.transport, ""
	}
	shared, ok := t.base().(*http.Transport)
	if !ok {
		return nil, "connections: the Base is not an *http.Transport"
	}
	own := shared.Clone()
	own.MaxConnsPerHost = p.Connections.MaxPerHost
	own.MaxIdleConnsPerHost = p.Connections.MaxPerHost
	if t.pools == nil {
		t.pools = map[string]pool{}
	}
	if old, ok := t.pools[name]; ok {
		old.transport.CloseIdleConnections()
	}
	t.pools[name] = pool{p.Connections.MaxPerHost, own}
	return own, ""
}

// retirePools ends the pools that a new snapshot has no use for. Calls under
// way finish on them; net/http then closes their connections. Call it with
// t.mu held.
func (t *Transport) retirePools(snap *policies.Snapshot) {
	for name, old := range t.pools {
		var up *policies.Upstream
		if snap != nil {
			up = snap.Named(name)
		}
		if up == nil || up.Policy.Connections == nil {
			old.transport.CloseIdleConnections()
			delete(t.pools, name)
		}
	}
}
