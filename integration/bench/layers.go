package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// layers measures what each layer adds: the chain of a policy with one more of
// them at a time, process-local.
func layers(book *book) error {
	off := policies.Policy{
		Match:          []policies.Match{{Host: "upstream.test"}},
		Retry:          &policies.Retry{Disabled: true},
		RetryBudget:    &policies.RetryBudget{Disabled: true},
		CircuitBreaker: &policies.CircuitBreaker{Disabled: true},
		Timeout:        &policies.Timeout{Attempt: 10 * time.Second, Total: 30 * time.Second},
	}
	steps := []struct {
		name string
		add  func(*policies.Policy)
	}{
		{"policy, copy, time-outs", func(*policies.Policy) {}},
		{"+ retry and its budget", func(p *policies.Policy) { p.Retry, p.RetryBudget = nil, nil }},
		{"+ circuit breaker", func(p *policies.Policy) { p.CircuitBreaker = nil }},
		{"+ bulkhead", func(p *policies.Policy) { p.Bulkhead = &policies.Bulkhead{MaxConcurrent: 64} }},
		{"+ rate limit", func(p *policies.Policy) {
			p.RateLimit = &policies.RateLimit{Rate: policies.MaxLimit, Burst: policies.MaxLimit}
		}},
	}
	req, err := http.NewRequest(http.MethodGet, "http://upstream.test/x", nil)
	if err != nil {
		return err
	}
	same := func() (*http.Request, error) { return req, nil }
	runs := []contestant{{name: bare, run: func(b *testing.B) { again(b, noop{}, same) }}}
	for _, step := range steps {
		step.add(&off)
		set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"upstream": off}})
		if err != nil {
			return err
		}
		t := &transport.Transport{Base: noop{}, Policies: set, Agent: alone()}
		runs = append(runs, contestant{name: step.name, run: func(b *testing.B) { again(b, t, same) }})
	}
	return book.race("layers", runs)
}
