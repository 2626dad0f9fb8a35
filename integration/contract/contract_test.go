package contract_test

import (
	"io"
	bitcount "math/bits"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/integration/contract"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestBare: the oracle passes its own test.
func TestBare(t *testing.T) {
	contract.Run(t, func(base http.RoundTripper) http.RoundTripper { return base }, contract.Options{Bare: true})
}

// layer is one part of a policy that can be on or off.
type layer struct {
	name    string
	on, off func(*policies.Policy)
}

// layers, all of them so that their own decisions do not show: limits are wide,
// waits short, and circuits stay closed. What policies decide is tested in
// package transport.
var layers = []layer{
	{name: "retry",
		on: func(p *policies.Policy) {
			p.Retry = &policies.Retry{Backoff: policies.Backoff{Base: 1, ThrottledBase: 1, Max: 1}}
		},
		off: func(p *policies.Policy) { p.Retry = &policies.Retry{Disabled: true} }},
	{name: "budget",
		on:  func(p *policies.Policy) { p.RetryBudget = &policies.RetryBudget{Capacity: 50} },
		off: func(p *policies.Policy) { p.RetryBudget = &policies.RetryBudget{Disabled: true} }},
	{name: "breaker",
		on: func(p *policies.Policy) {
			p.CircuitBreaker = &policies.CircuitBreaker{MinRequests: 1000, ConsecutiveFailures: 1000}
		},
		off: func(p *policies.Policy) { p.CircuitBreaker = &policies.CircuitBreaker{Disabled: true} }},
	{name: "bulkhead",
		on: func(p *policies.Policy) {
			p.Bulkhead = &policies.Bulkhead{MaxConcurrent: 4, MaxWait: 5 * time.Second}
		}},
	{name: "rate", on: func(p *policies.Policy) { p.RateLimit = &policies.RateLimit{Rate: 1e6, Burst: 1e6} }},
	{name: "idempotency", on: func(p *policies.Policy) { p.Idempotency = &policies.Idempotency{} }},
	{name: "fallback",
		on: func(p *policies.Policy) {
			p.Fallback = &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour}, Static: &policies.Static{Body: "static"}}
		}},
	{name: "timeouts",
		on: func(p *policies.Policy) {
			p.Timeout = &policies.Timeout{Attempt: 20 * time.Second, Idle: 20 * time.Second, Total: 40 * time.Second}
		},
		off: func(p *policies.Policy) {
			p.Timeout = &policies.Timeout{Attempt: policies.None, Idle: policies.None, Total: policies.None}
		}},
}

// combination has the layers on whose bits are set.
func combination(bits int) (name string, p policies.Policy) {
	var on []string
	for i, l := range layers {
		switch {
		case bits>>i&1 == 1:
			l.on(&p)
			on = append(on, l.name)
		case l.off != nil:
			l.off(&p)
		}
	}
	if on == nil {
		return "none", p
	}
	return strings.Join(on, "+"), p
}

// snapshot of one policy for the local servers.
func snapshot(t *testing.T, p policies.Policy) *policies.Snapshot {
	t.Helper()
	p.Match = []policies.Match{{Host: "127.0.0.1"}}
	s, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"upstream": p}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// options for ours under a policy.
func options(t *testing.T, up *contract.Upstream, p policies.Policy) contract.Options {
	o := contract.Options{Upstream: up, Answers: p.Fallback != nil}
	if p.Idempotency != nil {
		o.Adds = []string{"Idempotency-Key"}
	}
	s := snapshot(t, p)
	o.Hooked = func(base http.RoundTripper, hook func()) http.RoundTripper {
		return &transport.Transport{Base: base, Policies: s, Agent: alone(), Observe: func(transport.Event) { hook() }}
	}
	o.Refusing = refusing(t, up, p)
	return o
}

// alone is a session that no agent answers.
func alone() *client.Session { return &client.Session{Socket: absent} }

// absent is the path of no socket.
const absent = "testdata/no/agent.sock"

func ours(t *testing.T, p policies.Policy) contract.Wrap {
	s := snapshot(t, p)
	return func(base http.RoundTripper) http.RoundTripper {
		return &transport.Transport{Base: base, Policies: s, Agent: alone()}
	}
}

// refusing makes transports whose next call is refused, each for a reason of
// its own. What brought them there went to another base.
func refusing(t *testing.T, up *contract.Upstream, p policies.Policy) map[string]contract.Wrap {
	wraps := map[string]contract.Wrap{}
	for name, change := range map[string]func(*policies.Policy){
		"an open circuit": func(p *policies.Policy) {
			p.CircuitBreaker = &policies.CircuitBreaker{ConsecutiveFailures: 1}
		},
		"a full bulkhead": func(p *policies.Policy) {
			p.Bulkhead = &policies.Bulkhead{MaxConcurrent: 1, MaxWait: policies.None, MaxWaiting: policies.None}
		},
		"a full queue": func(p *policies.Policy) {
			p.Bulkhead = &policies.Bulkhead{MaxConcurrent: 1, MaxWait: time.Millisecond}
		},
		"no token": func(p *policies.Policy) {
			p.RateLimit = &policies.RateLimit{Rate: 0.001, Burst: 1, MaxWait: policies.None}
		},
	} {
		with := p
		change(&with)
		s := snapshot(t, with)
		wraps[name] = func(base http.RoundTripper) http.RoundTripper {
			b := &turning{now: failsOpen}
			tr := &transport.Transport{Base: b, Policies: s, Agent: alone()}
			req, err := http.NewRequest("POST", up.URL()+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			tr.RoundTrip(req) // its body stays open and holds the permit
			b.now = base.RoundTrip
			return tr
		}
	}
	return wraps
}

// turning is a base that can be exchanged between calls.
type turning struct {
	now func(*http.Request) (*http.Response, error)
}

func (b *turning) RoundTrip(req *http.Request) (*http.Response, error) { return b.now(req) }

// failsOpen answers 500 with a body.
func failsOpen(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 500, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("x")), ContentLength: 1, Request: req}, nil
}

// TestOurs: no difference from bare, with every combination of layers on and
// off. Those with at most one on, or at most one off, go through all points;
// the others leave out the ones that take long.
func TestOurs(t *testing.T) {
	up := contract.Start()
	t.Cleanup(up.Close)
	for bits := range 1 << len(layers) {
		name, p := combination(bits)
		on := bitcount.OnesCount(uint(bits))
		t.Run(name, func(t *testing.T) {
			o := options(t, up, p)
			if o.Quick = min(on, len(layers)-on) > 1; o.Quick {
				t.Parallel()
			}
			contract.Run(t, ours(t, p), o)
		})
	}
}

// TestZeroValue: without any configuration.
func TestZeroValue(t *testing.T) {
	contract.Run(t, func(base http.RoundTripper) http.RoundTripper {
		return &transport.Transport{Base: base, Agent: alone()}
	}, contract.Options{})
}
