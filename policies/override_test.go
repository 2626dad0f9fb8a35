package policies

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

const overridden = `{"version": 1, "defaults": {"timeout": {"attempt": "3s"}}, "upstreams": {
	"payments": {"match": [{"host": "pay"}], "bulkhead": {"max_concurrent": 64}}, "other": {}}}`

func TestWith(t *testing.T) {
	base := snapshotOf(t, overridden)
	before := base.ETag()
	set, err := base.Set().With("payments", map[string]string{
		"bulkhead.max_concurrent": "20", "timeout.attempt": "1s", "retry.statuses": "[503, 504]", "circuit_breaker.statuses": "[]",
		"rate_limit.rate": "50/s", "retry_budget.disabled": "true", "bulkhead.max_wait": "none",
	}, "override 1")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	p := s.Named("payments").Policy
	if p.Bulkhead.MaxConcurrent != 20 || p.Bulkhead.MaxWait != 0 || p.RetryBudget != nil || p.RateLimit.Rate != 50 || len(p.Retry.Statuses) != 2 || len(p.CircuitBreaker.Statuses) != 0 {
		t.Errorf("the values are not in force: %+v", p)
	}
	u, _ := url.Parse("http://pay/")
	for _, v := range s.Explain("GET", u).Values {
		if v.Path == "timeout.attempt" && (v.Value != "1s" || v.From() != "override 1") {
			t.Errorf("explain says %s from %s, want 1s from override 1", v.Value, v.From())
		}
	}
	again, err := Compile(base.Set())
	if err != nil || again.ETag() != before {
		t.Errorf("the set below was changed: %v", err)
	}
	if few, _ := s.Diff(base, 100); len(few) == 0 || few[0].Upstream != "payments" {
		t.Errorf("changes %v", few)
	}
}

func TestWithRefuses(t *testing.T) {
	base := snapshotOf(t, overridden).Set()
	for name, one := range map[string]struct {
		upstream string
		values   map[string]string
		says     string
	}{
		"unknown upstream": {"paymets", map[string]string{"bulkhead.max_concurrent": "1"}, `did you mean "payments"`},
		"unknown key":      {"payments", map[string]string{"bulkhead.max_concurent": "1"}, "max_concurrent"},
		"below its bound":  {"payments", map[string]string{"bulkhead.max_concurrent": "0"}, "max_concurrent"},
		"no unit":          {"payments", map[string]string{"timeout.attempt": "2"}, "2s"},
		"a match":          {"payments", map[string]string{"match": "[]"}, "in the files"},
		"nothing":          {"payments", nil, "no values"},
		"one good one bad": {"payments", map[string]string{"bulkhead.max_concurrent": "5", "timeout.total": "x"}, "timeout.total"},
		"both":             {"payments", map[string]string{"bulkhead": "5", "bulkhead.max_wait": "1s"}, "section"},
		"no rate":          {"payments", map[string]string{"rate_limit.burst": "5"}, "rate"},
		"an empty path":    {"payments", map[string]string{"": "5"}, "unknown key"},
	} {
		set, err := base.With(one.upstream, one.values, "x")
		if err == nil {
			_, err = Compile(set)
		}
		if err == nil || !strings.Contains(err.Error(), one.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, one.says)
		}
	}
}

// However long a value is, or a key, what is said of it can be read.
func TestWithRefusesBriefly(t *testing.T) {
	base := snapshotOf(t, overridden).Set()
	long := strings.Repeat("1", 60_000)
	for path, value := range map[string]string{
		"bulkhead.max_concurrent": long, "timeout.attempt": long, "timeout.total": long + "s", "bulkhead.max_wait": "-" + long,
		"rate_limit.rate": long, "rate_limit.burst": strings.Repeat("x", 60_000), "retry.disabled": long, "on_agent_loss": long,
		"circuit_breaker.failure_rate": "0." + long, "retry.statuses": "[" + long + "]", "bulkhead." + long: "1", long: "1",
		"idempotency.header": "a b" + long, "retry_budget.capacity": "1" + strings.Repeat("0", 60_000) + "/s",
	} {
		_, err := base.With("payments", map[string]string{path: value}, "x")
		if err == nil || len(err.Error()) > 1000 {
			t.Errorf("%s: %v, want an error of less than 1000 bytes", shortened(path, 60), shortened(fmt.Sprint(err), 2000))
		}
	}
}
