package main

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/resagent/resagent/policies"
)

// What is compared does the same: each stack answers, sends the whole body,
// and the limits of ours are really on.
func TestStacks(t *testing.T) {
	h, err := newHost(limited(policies.ScopeHost))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	}()
	s, err := h.session()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := stacks(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		body := &counted{Reader: bytes.NewReader(make([]byte, 10<<10))}
		req, err := http.NewRequest(http.MethodPost, "http://upstream.test/x", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := one.RoundTrip(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %v %v, want 200", one.name, resp, err)
			continue
		}
		resp.Body.Close()
		if body.n < 10<<10 {
			t.Errorf("%s: %d bytes of the body were read, want all", one.name, body.n)
		}
	}
	p := &s.Policies().Named("upstream").Policy
	if p.Retry == nil || p.RetryBudget == nil || p.CircuitBreaker == nil || p.Bulkhead == nil || p.RateLimit == nil || p.Timeout == nil {
		t.Errorf("a limit of ours is off: %+v", p)
	}
}

// counted counts what is read of it.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}
