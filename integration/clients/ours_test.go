package clients

import (
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// permits of the bulkhead.
const permits = 4

// quick has every limit on for the local servers, with short waits.
var quick = compiled(policies.Policy{
	Retry:          &policies.Retry{Backoff: policies.Backoff{Base: 1, ThrottledBase: 1, Max: 1}},
	CircuitBreaker: &policies.CircuitBreaker{MinRequests: 1000, ConsecutiveFailures: 1000},
	Bulkhead:       &policies.Bulkhead{MaxConcurrent: permits, MaxWait: time.Second},
	RateLimit:      &policies.RateLimit{Rate: 1e6, Burst: 1e6},
	Timeout:        &policies.Timeout{Attempt: 20 * time.Second, Idle: 20 * time.Second, Total: 40 * time.Second},
})

func compiled(p policies.Policy) *policies.Snapshot {
	p.Match = []policies.Match{{Host: "127.0.0.1"}}
	s, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"local": p}})
	if err != nil {
		panic(err)
	}
	return s
}

// alone is a session that no agent answers.
func alone() *client.Session { return &client.Session{Socket: "testdata/no/agent.sock"} }

// client is a plain http.Client over ours, and events counts what it did.
func ours(t *testing.T) (*http.Client, *tally) {
	before := goleak.IgnoreCurrent()
	base := &http.Transport{}
	events := &tally{}
	c := &http.Client{Transport: &transport.Transport{Base: base, Policies: quick, Agent: alone(), Observe: events.add}}
	t.Cleanup(func() {
		c.CloseIdleConnections()
		goleak.VerifyNone(t, before)
	})
	return c, events
}
