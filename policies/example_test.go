package policies_test

import (
	"fmt"
	"net/url"
	"time"

	"github.com/resagent/resagent/policies"
)

// A program without files says its policies in Go.
func Example() {
	snapshot, err := policies.Compile(&policies.Set{
		Version:  1,
		Defaults: policies.Policy{Timeout: &policies.Timeout{Attempt: 5 * time.Second}},
		Upstreams: map[string]policies.Policy{
			"payments": {
				Match:    []policies.Match{{Host: "payments.internal"}, {Host: "*.pay.example.com", Path: "/v1"}},
				Timeout:  &policies.Timeout{Total: 8 * time.Second},
				Bulkhead: &policies.Bulkhead{MaxConcurrent: 64},
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	u, _ := url.Parse("https://eu.pay.example.com/v1/charges")
	payments := snapshot.Lookup("GET", u)
	fmt.Println(payments.Name)
	fmt.Println("attempt", payments.Policy.Timeout.Attempt, "total", payments.Policy.Timeout.Total)
	fmt.Println("at once", payments.Policy.Bulkhead.MaxConcurrent, "waiting", payments.Policy.Bulkhead.MaxWaiting)
	// Output:
	// payments
	// attempt 5s total 8s
	// at once 64 waiting 128
}

// Everything that is wrong comes back at once.
func ExampleCompile_errors() {
	_, err := policies.Compile(&policies.Set{
		Version: 1,
		Upstreams: map[string]policies.Policy{
			"orders": {
				Match:     []policies.Match{{Host: "orders.internal"}},
				Retry:     &policies.Retry{MaxAttempts: -3},
				RateLimit: &policies.RateLimit{Burst: 10},
			},
			"stock": {Match: []policies.Match{{Host: "Orders.internal."}}},
		},
	})
	fmt.Println(err)
	// Output:
	// policies: upstreams.orders.rate_limit.rate: is missing: write a rate such as 200/s or 90/m
	// policies: upstreams.orders.retry.max_attempts: -3 is below 1: write a number of attempts, 1 or more
	// policies: upstreams.stock.match[0]: ties with upstreams.orders.match[0]: change the host, the path or the methods of one of the two
}

func ExampleParseJSON() {
	_, err := policies.ParseJSON([]byte(`{
  "version": 1,
  "upstreams": {"search": {"timeout": {"atempt": "2s", "total": 8}}}
}`), "policies.json")
	fmt.Println(err)
	// Output:
	// policies.json:3:40: upstreams.search.timeout.atempt: unknown key: write attempt
	// policies.json:3:65: upstreams.search.timeout.total: 8 has no unit: write 8s or 8ms
}

func ExampleSnapshot_Explain() {
	set, err := policies.ParseJSON([]byte(`{
  "version": 1,
  "defaults": {"timeout": {"total": "20s"}},
  "upstreams": {
    "search": {"match": [{"host": "search.internal"}], "timeout": {"attempt": "500ms"}}
  }
}`), "policies.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	snapshot, err := policies.Compile(set)
	if err != nil {
		fmt.Println(err)
		return
	}
	u, _ := url.Parse("http://search.internal/q")
	e := snapshot.Explain("GET", u)
	fmt.Println(e.Upstream, "by", e.Match.Host, "at", e.MatchPosition)
	for _, v := range e.Values[:3] {
		fmt.Println(v.Path, v.Value, "from", v.From())
	}
	// Output:
	// search by search.internal at policies.json:5:35
	// timeout.attempt 500ms from policies.json:5:79
	// timeout.idle 1m from built-in
	// timeout.total 20s from defaults (policies.json:3:37)
}
