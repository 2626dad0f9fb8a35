package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/gojek/heimdall/v7/httpclient"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// noop is a base that reads the request and costs next to nothing.
type noop struct{}

func (noop) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
		req.Body.Close()
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// stack is a RoundTripper to measure.
type stack struct {
	name string
	http.RoundTripper
}

// The stacks, by name.
const (
	bare      = "bare base"
	retryable = "go-retryablehttp alone"
	failsafe  = "failsafe-go, equal stack"
	heimdalls = "heimdall, retries alone"
	oursOwn   = "resagent, process-local"
	oursHost  = "resagent, host-wide"
)

// stacks makes all of them over noop. The session is the one of oursHost.
func stacks(s *client.Session) ([]stack, error) {
	own, err := policies.Compile(limited(policies.ScopeProcess))
	if err != nil {
		return nil, err
	}
	retry := retryablehttp.NewClient()
	retry.Logger = nil
	retry.HTTPClient = &http.Client{Transport: noop{}}
	return []stack{
		{bare, noop{}},
		{retryable, &retryablehttp.RoundTripper{Client: retry}},
		{failsafe, failsafeStack(noop{})},
		{heimdalls, heimdallStack()},
		{oursOwn, &transport.Transport{Base: noop{}, Policies: own, Agent: &client.Session{Socket: "/nonexistent/agent.sock"}}},
		{oursHost, &transport.Transport{Base: noop{}, Agent: s}},
	}, nil
}

// failsafeStack has the layers that ours has with limited, with the same
// figures: retry, breaker, bulkhead, rate limit, timeout.
func failsafeStack(base http.RoundTripper) http.RoundTripper {
	failed := func(r *http.Response, err error) bool { return err != nil || r.StatusCode >= 500 }
	return failsafehttp.NewRoundTripper(base,
		failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(2).WithBackoff(50*time.Millisecond, 20*time.Second).WithJitterFactor(1).Build(),
		circuitbreaker.NewBuilder[*http.Response]().HandleIf(failed).WithFailureRateThreshold(0.5, 20, 10*time.Second).WithDelay(5*time.Second).Build(),
		bulkhead.NewBuilder[*http.Response](64).WithMaxWaitTime(100*time.Millisecond).Build(),
		ratelimiter.NewBurstyBuilder[*http.Response](policies.MaxLimit, time.Second).WithMaxWaitTime(100*time.Millisecond).Build(),
		timeout.New[*http.Response](10*time.Second),
	)
}

// heimdallStack is its client with as many retries. Its other client has a
// breaker and a limit of calls in flight (hystrix-go), but gives permits back
// by another goroutine, later: at full speed a limit of 64 refuses one caller.
func heimdallStack() http.RoundTripper {
	return doer{httpclient.NewClient(httpclient.WithHTTPClient(&http.Client{Transport: noop{}}), httpclient.WithRetryCount(2))}
}

// doer is a client as a RoundTripper.
type doer struct {
	client interface {
		Do(*http.Request) (*http.Response, error)
	}
}

func (d doer) RoundTrip(req *http.Request) (*http.Response, error) { return d.client.Do(req) }

// limited is a set whose upstream has every limit, none of which is reached.
func limited(scope policies.Scope) *policies.Set {
	return &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"upstream": {
		Match:       []policies.Match{{Host: "upstream.test"}},
		Timeout:     &policies.Timeout{Attempt: 10 * time.Second, Total: 30 * time.Second},
		RetryBudget: &policies.RetryBudget{Scope: scope},
		Bulkhead:    &policies.Bulkhead{MaxConcurrent: 64, Scope: scope},
		RateLimit:   &policies.RateLimit{Rate: policies.MaxLimit, Burst: policies.MaxLimit, Scope: scope},
	}}}
}

// host is an agent in this process, for sessions of this and other processes.
type host struct {
	dir, socket string
	stop        func() error
}

func newHost(set *policies.Set) (*host, error) {
	dir, err := os.MkdirTemp("", "ra")
	if err != nil {
		return nil, err
	}
	h := &host{dir: dir, socket: filepath.Join(dir, "agent.sock")}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	a := &agent.Agent{Socket: h.socket, Ledger: filepath.Join(dir, "ledger"),
		Load:  func() (*policies.Snapshot, error) { return policies.Compile(set) },
		Ready: func() { close(ready) }}
	go func() { done <- a.Run(ctx) }()
	h.stop = func() error {
		cancel()
		defer os.RemoveAll(dir)
		return <-done
	}
	select {
	case <-ready:
		return h, nil
	case err := <-done:
		return nil, err
	}
}

// session attaches to the host, and fails unless limits are shared.
func (h *host) session() (*client.Session, error) {
	s := &client.Session{Socket: h.socket}
	// One call waits 250 ms at most, which a busy machine can need.
	for end := time.Now().Add(10 * time.Second); s.Mode() != client.Attached || s.Policies() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.Close()
			return nil, fmt.Errorf("the session's mode is %s, want attached", s.Mode())
		}
		s.Attach(context.Background())
	}
	return s, nil
}
