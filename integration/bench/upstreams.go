package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// many is a set of n upstreams, each with every limit.
func many(n int) (*policies.Snapshot, error) {
	one := limited(policies.ScopeProcess).Upstreams["upstream"]
	set := &policies.Set{Version: 1, Upstreams: make(map[string]policies.Policy, n)}
	for i := range n {
		p := one
		p.Match = []policies.Match{{Host: fmt.Sprintf("host%d.test", i), Path: "/v1"}, {Host: fmt.Sprintf("*.zone%d.test", i)}}
		set.Upstreams[fmt.Sprintf("u%d", i)] = p
	}
	return policies.Compile(set)
}

// upstreams measures what a call costs among few and many upstreams: finding
// its policy, and the whole chain, once to one upstream all the time and once
// to each of them in turn.
func upstreams(book *book) error {
	var find, same, turns []contestant
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		snapshot, err := many(n)
		if err != nil {
			return err
		}
		exact := &url.URL{Scheme: "http", Host: fmt.Sprintf("host%d.test", n/2), Path: "/v1/things"}
		suffix := &url.URL{Scheme: "http", Host: fmt.Sprintf("a.zone%d.test:8080", n/2), Path: "/"}
		x := float64(n)
		find = append(find, contestant{fmt.Sprintf("finding a policy, exact and suffix, %d upstreams", n), x, func(b *testing.B) {
			for b.Loop() {
				if snapshot.Lookup(http.MethodGet, exact) == nil || snapshot.Lookup(http.MethodGet, suffix) == nil {
					b.Fatal("not found")
				}
			}
		}})
		t := &transport.Transport{Base: noop{}, Policies: snapshot, Agent: alone()}
		all := make([]*http.Request, n)
		for i := range all {
			if all[i], err = http.NewRequest(http.MethodGet, fmt.Sprintf("http://host%d.test/v1/things", i), nil); err != nil {
				return err
			}
			resp, err := t.RoundTrip(all[i]) // each has been called before
			if err != nil {
				return err
			}
			resp.Body.Close()
		}
		same = append(same, contestant{fmt.Sprintf("a call, one of %d upstreams", n), x, func(b *testing.B) {
			again(b, t, func() (*http.Request, error) { return all[n/2], nil })
		}})
		turns = append(turns, contestant{fmt.Sprintf("calls to %d upstreams in turn", n), x, func(b *testing.B) {
			i := 0
			again(b, t, func() (*http.Request, error) { i++; return all[i%n], nil })
		}})
	}
	return book.race("upstreams", append(append(find, same...), turns...))
}

// alone is a session without an agent.
func alone() *client.Session { return &client.Session{Socket: "/nonexistent/agent.sock"} }

// unread is a base whose bodies have yet to be read, so that calls stay in
// flight until they are closed.
type unread struct{}

func (unread) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(endless{}), Request: req}, nil
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// inFlight measures what a call costs while others are in flight, for the
// host's limits.
func inFlight(book *book) error {
	set := limited(policies.ScopeHost)
	set.Upstreams["upstream"].Bulkhead.MaxConcurrent = 20_000
	h, err := newHost(set)
	if err != nil {
		return err
	}
	defer h.stop()
	s, err := h.session()
	if err != nil {
		return err
	}
	defer s.Close()
	t := &transport.Transport{Base: unread{}, Agent: s}
	req, err := http.NewRequest(http.MethodGet, "http://upstream.test/x", nil)
	if err != nil {
		return err
	}
	var open []*http.Response
	defer func() {
		for _, resp := range open {
			resp.Body.Close()
		}
	}()
	// hold has n calls in flight.
	hold := func(b *testing.B, n int) {
		for len(open) < n {
			resp, err := t.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			open = append(open, resp)
		}
		for len(open) > n {
			open[len(open)-1].Body.Close()
			open = open[:len(open)-1]
		}
	}
	var runs []contestant
	for _, n := range []int{0, 10, 100, 1000, 10_000} {
		runs = append(runs, contestant{fmt.Sprintf("a call while %d are in flight", n), float64(max(n, 1)), func(b *testing.B) {
			hold(b, n)
			again(b, t, func() (*http.Request, error) { return req, nil })
		}})
	}
	return book.race("in flight", runs)
}
