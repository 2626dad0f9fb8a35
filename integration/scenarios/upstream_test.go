package scenarios

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// upstream is a simulated server, used as a base: so many workers, so long per
// request, and a queue without end. Like most real ones it finishes what it
// has accepted, whether or not anybody still waits for it.
type upstream struct {
	service time.Duration

	mu       sync.Mutex
	workers  int
	busy     int
	queue    []chan struct{} // of those waiting for a worker; closed when served
	failing  bool            // answers 503 at once
	arrived  int             // attempts seen
	longest  int             // length of the queue
	inFlight int             // callers inside
}

var errGone = errors.New("the caller has gone")

// RoundTrip waits for a worker and then for its work.
func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	u.mu.Lock()
	u.arrived++
	u.inFlight++
	defer func() {
		u.mu.Lock()
		u.inFlight--
		u.mu.Unlock()
	}()
	if u.failing {
		u.mu.Unlock()
		return answer(req, http.StatusServiceUnavailable), nil
	}
	done := make(chan struct{})
	u.queue = append(u.queue, done)
	u.longest = max(u.longest, len(u.queue))
	u.start()
	u.mu.Unlock()
	select {
	case <-done:
		return answer(req, http.StatusOK), nil
	case <-req.Context().Done():
		return nil, errors.Join(errGone, context.Cause(req.Context()))
	}
}

// start gives work to free workers. Call it with u.mu held.
func (u *upstream) start() {
	for u.busy < u.workers && len(u.queue) > 0 {
		done := u.queue[0]
		u.queue = u.queue[1:]
		u.busy++
		time.AfterFunc(u.service, func() {
			close(done)
			u.mu.Lock()
			u.busy--
			u.start()
			u.mu.Unlock()
		})
	}
}

// set changes the upstream under load.
func (u *upstream) set(change func(*upstream)) {
	u.mu.Lock()
	change(u)
	u.start()
	u.mu.Unlock()
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.arrived
}

func answer(req *http.Request, status int) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader("x")), ContentLength: 1, Request: req,
	}
}

// hosts sends each host's requests to its own upstream.
type hosts map[string]http.RoundTripper

func (h hosts) RoundTrip(req *http.Request) (*http.Response, error) {
	return h[req.URL.Host].RoundTrip(req)
}

// transportFor makes one with a policy for each host, and no agent.
func transportFor(t *testing.T, base http.RoundTripper, perHost map[string]policies.Policy) *transport.Transport {
	t.Helper()
	set := &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{}}
	for host, p := range perHost {
		p.Match = []policies.Match{{Host: host}}
		set.Upstreams[host] = p
	}
	s, err := policies.Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	return &transport.Transport{Base: base, Policies: s, Agent: alone()}
}

// alone is a session that no agent answers.
func alone() *client.Session { return &client.Session{Socket: "testdata/no/agent.sock"} }

// get calls and reads; it says whether the answer was good.
func get(rt http.RoundTripper, host string) bool {
	req, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return false
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return false
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
