package policies

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// one compiles a set of one upstream and gives its resolved policy.
func one(t *testing.T, defaults, upstream Policy) Policy {
	t.Helper()
	set := &Set{Version: 1, Defaults: defaults, Upstreams: map[string]Policy{"a": upstream}}
	return mustCompile(t, set).Named("a").Policy
}

// What nothing is said of is as DESIGN.md, section 4, has it.
func TestBuiltIn(t *testing.T) {
	want := Policy{
		Timeout:        &Timeout{Attempt: 10 * time.Second, Idle: 60 * time.Second, Total: 30 * time.Second},
		Retry:          &Retry{MaxAttempts: 3, Backoff: Backoff{50 * time.Millisecond, time.Second, 20 * time.Second}, Statuses: []int{408, 429, 502, 503, 504}, MaxRetryAfter: 60 * time.Second, Pause: PauseRetries},
		RetryBudget:    &RetryBudget{Capacity: 500, Scope: ScopeHost},
		CircuitBreaker: &CircuitBreaker{Mode: ModeTrip, Multiplier: 2, Statuses: []int{500, 502, 503, 504}, FailureRate: 0.5, MinRequests: 20, ConsecutiveFailures: 20, Window: 10 * time.Second, SlowCallRate: 0.5, OpenFor: 5 * time.Second, MaxOpenFor: 60 * time.Second, HalfOpenRequests: 1, Scope: ScopeHost},
		OnAgentLoss:    LossHold,
	}
	if got := one(t, Policy{}, Policy{}); !reflect.DeepEqual(got, want) {
		t.Errorf("a named upstream has %+v\nwant %+v", got, want)
	}
	want.Timeout = &Timeout{Attempt: 60 * time.Second}
	if got := Unnamed(); !reflect.DeepEqual(*got, want) {
		t.Errorf("an unnamed one has %+v\nwant %+v", *got, want)
	}
	Unnamed().Retry.Statuses[0] = 1
	Unnamed().CircuitBreaker.Statuses[0] = 1
	if Unnamed().Retry.Statuses[0] != 408 || Unnamed().CircuitBreaker.Statuses[0] != 500 {
		t.Error("what Unnamed gives is shared")
	}
}

func TestBuiltInOfSections(t *testing.T) {
	got := one(t, Policy{}, Policy{
		Bulkhead:    &Bulkhead{MaxConcurrent: 7},
		RateLimit:   &RateLimit{Rate: 2.5},
		Idempotency: &Idempotency{},
		Fallback:    &Fallback{Stale: &Stale{MaxStale: time.Hour}},
	})
	if want := (Bulkhead{MaxConcurrent: 7, MaxWaiting: 14, MaxWait: 100 * time.Millisecond, MaxSharePerUID: 1, Scope: ScopeHost}); *got.Bulkhead != want {
		t.Errorf("bulkhead is %+v, want %+v", *got.Bulkhead, want)
	}
	if want := (RateLimit{Rate: 2.5, Burst: 3, MaxWait: 100 * time.Millisecond, Scope: ScopeHost}); *got.RateLimit != want {
		t.Errorf("rate limit is %+v, want %+v", *got.RateLimit, want)
	}
	if want := (Idempotency{Header: "Idempotency-Key", Methods: []string{"POST", "PATCH"}}); !reflect.DeepEqual(*got.Idempotency, want) {
		t.Errorf("idempotency is %+v, want %+v", *got.Idempotency, want)
	}
	if got.Fallback.Stale.After != time.Second || got.Fallback.Static != nil {
		t.Errorf("fallback is %+v", *got.Fallback)
	}
	large := one(t, Policy{}, Policy{Bulkhead: &Bulkhead{MaxConcurrent: MaxLimit}, RateLimit: &RateLimit{Rate: minRate}})
	if large.Bulkhead.MaxWaiting != MaxLimit || large.RateLimit.Burst != 1 {
		t.Errorf("at the ends: %d waiting, burst %d; want %d and 1", large.Bulkhead.MaxWaiting, large.RateLimit.Burst, MaxLimit)
	}
}

func TestInheritance(t *testing.T) {
	defaults := Policy{
		Timeout:     &Timeout{Attempt: time.Second, Idle: None},
		Retry:       &Retry{Disabled: true, MaxAttempts: 5, Statuses: []int{500}},
		RetryBudget: &RetryBudget{Disabled: true},
		Bulkhead:    &Bulkhead{MaxConcurrent: 10, MaxWaiting: 4},
		RateLimit:   &RateLimit{MaxWait: time.Second},
		Fallback:    &Fallback{Stale: &Stale{MaxStale: time.Hour}, Static: &Static{Status: 503, Body: "sorry"}},
		Connections: &Connections{MaxPerHost: 3},
		OnAgentLoss: LossStrict,
	}
	got := one(t, defaults, Policy{
		Timeout:     &Timeout{Total: None},
		Retry:       &Retry{Backoff: Backoff{Base: None}, Statuses: []int{}},
		Bulkhead:    &Bulkhead{MaxWaiting: None, Scope: ScopeProcess},
		RateLimit:   &RateLimit{Rate: 5},
		Fallback:    &Fallback{Stale: &Stale{MaxStale: None}, Static: &Static{ContentType: "text/plain"}},
		Connections: &Connections{Disabled: true},
	})
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"attempt, from the defaults", got.Timeout.Attempt, time.Second},
		{"idle, none in the defaults", got.Timeout.Idle, time.Duration(0)},
		{"total, none in the upstream", got.Timeout.Total, time.Duration(0)},
		{"attempts of a retry that writing turns on again", got.Retry.MaxAttempts, 5},
		{"base, none in the upstream", got.Retry.Backoff.Base, time.Duration(0)},
		{"statuses, an empty list", len(got.Retry.Statuses), 0},
		{"a budget disabled in the defaults", got.RetryBudget == nil, true},
		{"concurrency, from the defaults", got.Bulkhead.MaxConcurrent, 10},
		{"waiting, none", got.Bulkhead.MaxWaiting, 0},
		{"scope, from the upstream", got.Bulkhead.Scope, ScopeProcess},
		{"wait, from the defaults", got.RateLimit.MaxWait, time.Second},
		{"stale, turned off by none", got.Fallback.Stale == nil, true},
		{"static body, from the defaults", got.Fallback.Static.Body, "sorry"},
		{"static type, from the upstream", got.Fallback.Static.ContentType, "text/plain"},
		{"connections, disabled", got.Connections == nil, true},
		{"loss, from the defaults", got.OnAgentLoss, LossStrict},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

// A circuit's statuses are inherited as a whole, by a nil list alone.
func TestInheritedStatuses(t *testing.T) {
	builtIn := []int{500, 502, 503, 504}
	for name, c := range map[string]struct {
		defaults, upstream *CircuitBreaker
		want               []int
	}{
		"built-in":                   {nil, nil, builtIn},
		"another key is said":        {nil, &CircuitBreaker{MinRequests: 5}, builtIn},
		"the upstream's":             {&CircuitBreaker{Statuses: []int{429}}, &CircuitBreaker{Statuses: []int{502, 520}}, []int{502, 520}},
		"the defaults', no section":  {&CircuitBreaker{Statuses: []int{429}}, nil, []int{429}},
		"the defaults', another key": {&CircuitBreaker{Statuses: []int{429}}, &CircuitBreaker{MinRequests: 5}, []int{429}},
		"none, over the defaults":    {&CircuitBreaker{Statuses: []int{429}}, &CircuitBreaker{Statuses: []int{}}, []int{}},
		"none in the defaults":       {&CircuitBreaker{Statuses: []int{}}, &CircuitBreaker{MinRequests: 5}, []int{}},
	} {
		if got := one(t, Policy{CircuitBreaker: c.defaults}, Policy{CircuitBreaker: c.upstream}).CircuitBreaker.Statuses; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, want %v", name, got, c.want)
		}
	}
}

// A limit that is raised alone takes the built-in one beside it along.
func TestDependentValues(t *testing.T) {
	got := one(t, Policy{}, Policy{
		Retry:          &Retry{Backoff: Backoff{Base: time.Minute}},
		CircuitBreaker: &CircuitBreaker{OpenFor: 5 * time.Minute},
	})
	if got.Retry.Backoff.Max != time.Minute || got.CircuitBreaker.MaxOpenFor != 5*time.Minute {
		t.Errorf("max is %v and max_open_for %v; want 1m and 5m", got.Retry.Backoff.Max, got.CircuitBreaker.MaxOpenFor)
	}
}

// Nothing that is done to the set afterwards reaches the snapshot.
func TestSnapshotSharesNothing(t *testing.T) {
	p := Policy{
		Match:          []Match{{Host: "a", Methods: []string{"GET"}}},
		Retry:          &Retry{Statuses: []int{503}},
		CircuitBreaker: &CircuitBreaker{Statuses: []int{503}},
		Fallback:       &Fallback{Static: &Static{Headers: map[string]string{"X-A": "1"}}},
	}
	got := one(t, Policy{}, p)
	p.Match[0].Methods[0] = "changed"
	p.Retry.Statuses[0] = 1
	p.CircuitBreaker.Statuses[0] = 1
	p.Fallback.Static.Headers["X-A"] = "changed"
	if got.Match[0].Methods[0] != "GET" || got.Retry.Statuses[0] != 503 || got.CircuitBreaker.Statuses[0] != 503 || got.Fallback.Static.Headers["X-A"] != "1" {
		t.Errorf("the snapshot has changed with the set: %+v", got)
	}
}

func TestETag(t *testing.T) {
	set := func(attempts int, origin Position) *Set {
		return &Set{Version: 1, Upstreams: map[string]Policy{"a": {Retry: &Retry{MaxAttempts: attempts}}}, Origin: map[string]Position{"": origin}}
	}
	a := mustCompile(t, set(3, Position{"x", 1, 1})).ETag()
	if b := mustCompile(t, set(3, Position{"y", 2, 2})).ETag(); a != b {
		t.Errorf("sets that say the same have %s and %s", a, b)
	}
	if b := mustCompile(t, set(4, Position{"x", 1, 1})).ETag(); a == b {
		t.Errorf("sets that differ both have %s", a)
	}
}

// Sets that programs build are judged as files are, without positions.
func TestCompileRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		want   string
	}{
		"NaN":               {Policy{RateLimit: &RateLimit{Rate: Rate(math.NaN())}}, `policies: upstreams.a.rate_limit.rate: "NaN/s" is not a number: write a rate such as 200/s or 90/m`},
		"infinite":          {Policy{CircuitBreaker: &CircuitBreaker{FailureRate: math.Inf(1)}}, `policies: upstreams.a.circuit_breaker.failure_rate: +Inf is not a number: write a number above 0 and at most 1, such as 0.5`},
		"negative rate":     {Policy{RateLimit: &RateLimit{Rate: -1}}, `policies: upstreams.a.rate_limit.rate: "-1/s" is not above 0: write a rate such as 200/s or 90/m`},
		"slow rate":         {Policy{RateLimit: &RateLimit{Rate: 1e-9}}, `policies: upstreams.a.rate_limit.rate: "0.000000001/s" is below one call an hour: write a rate such as 200/s or 90/m`},
		"no unit":           {Policy{Timeout: &Timeout{Attempt: 5}}, `policies: upstreams.a.timeout.attempt: 5ns is below 1µs: write a duration such as 10s, or none`},
		"negative duration": {Policy{Timeout: &Timeout{Attempt: -5}}, `policies: upstreams.a.timeout.attempt: -5ns is below zero: write a duration such as 10s, or none`},
		"largest duration":  {Policy{Timeout: &Timeout{Total: math.MaxInt64}}, `policies: upstreams.a.timeout.total: 2562047h47m16.854775807s is above 8760h: write a duration such as 30s, or none`},
		"none where not":    {Policy{Retry: &Retry{MaxAttempts: None}}, `policies: upstreams.a.retry.max_attempts: -1 is below 1: write a number of attempts, 1 or more`},
		"largest int":       {Policy{RetryBudget: &RetryBudget{Capacity: math.MaxInt}}, `policies: upstreams.a.retry_budget.capacity: 9223372036854775807 is above 16777215: write a number of tokens, 1 or more; a retry takes 14`},
		"fallback 403":      {Policy{Fallback: &Fallback{Statuses: []int{403}, Static: &Static{}}}, `policies: upstreams.a.fallback.statuses[0]: 403 says that this caller may not see the answer: write statuses from 400 to 599, such as [500, 503]`},
		"circuit, 404":      {Policy{CircuitBreaker: &CircuitBreaker{Statuses: []int{429, 404}}}, `policies: upstreams.a.circuit_breaker.statuses[1]: 404 says what is wrong with the request, not with the upstream: write statuses from 400 to 599, such as [502, 503, 504]`},
		"circuit, 302":      {Policy{CircuitBreaker: &CircuitBreaker{Statuses: []int{302}}}, `policies: upstreams.a.circuit_breaker.statuses[0]: 302 is below 400: write statuses from 400 to 599, such as [502, 503, 504]`},
		"circuit, twice":    {Policy{CircuitBreaker: &CircuitBreaker{Statuses: []int{503, 503}}}, `policies: upstreams.a.circuit_breaker.statuses[1]: 503 is in the list twice: write it once`},
		"status zero":       {Policy{Retry: &Retry{Statuses: []int{0}}}, `policies: upstreams.a.retry.statuses[0]: 0 is below 400: write statuses from 400 to 599, such as [429, 503]`},
		"long body":         {Policy{Fallback: &Fallback{Static: &Static{Body: strings.Repeat("x", MaxBody+1)}}}, `policies: upstreams.a.fallback.static.body: the body has 1048577 bytes: write at most 1048576`},
		"no host":           {Policy{Match: []Match{{Path: "/"}}}, `policies: upstreams.a.match[0].host: is missing: write a host such as payments.internal, "*.example.com" or "[::1]:8080"`},
		"long list":         {Policy{Match: make([]Match, maxList+1)}, `policies: upstreams.a.match: the list has 1025 entries: write at most 1024`},
		"word unknown":      {Policy{OnAgentLoss: "HOLD"}, `policies: upstreams.a.on_agent_loss: "HOLD" is not known: write hold, strict, local or open`},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot, err := Compile(&Set{Version: 1, Upstreams: map[string]Policy{"a": c.policy}})
			if err == nil || snapshot != nil {
				t.Fatalf("Compile gave %v, %v; want an error alone", snapshot, err)
			}
			if err.Error() != c.want {
				t.Errorf("the error is\n%s\nwant\n%s", err, c.want)
			}
		})
	}
	if _, err := Compile(nil); err == nil {
		t.Error("no set was compiled")
	}
	if _, err := Compile(&Set{}); err == nil || err.Error() != "policies: version: is missing: begin with version: 1" {
		t.Errorf("a set without version gave %v", err)
	}
	if _, err := Compile(manyUpstreams(MaxUpstreams + 1)); err == nil {
		t.Error("more than MaxUpstreams were compiled")
	}
}

func TestErrors(t *testing.T) {
	set := &Set{Version: 1, Upstreams: map[string]Policy{}}
	for _, u := range manyUpstreams(80).Upstreams {
		u.Retry = &Retry{MaxAttempts: -7}
		set.Upstreams["x"+u.Match[0].Host] = u
	}
	_, err := Compile(set)
	all, ok := errors.AsType[Errors](err)
	if !ok || len(all) != 80 {
		t.Fatalf("got %d errors of type %T, want 80 Errors", len(all), err)
	}
	if first, ok := errors.AsType[*Error](err); !ok || first != all[0] {
		t.Error("errors.As does not find the first error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxErrorLines+1 || lines[maxErrorLines] != "policies: and 30 more errors" {
		t.Errorf("it prints %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	if !slices.IsSorted(lines[:maxErrorLines]) {
		t.Error("the errors are in no order")
	}
}

func TestEvery(t *testing.T) {
	for rate, want := range map[Rate]time.Duration{1: time.Second, 200: 5 * time.Millisecond, 1.5: 666666667, MaxLimit: 60, minRate: time.Hour} {
		if got := rate.Every(); got != want {
			t.Errorf("Rate(%v).Every() is %v, want %v", float64(rate), got, want)
		}
	}
}

// Upstreams have the sections in common that say the same, and no others.
func TestEqualSectionsAreOne(t *testing.T) {
	snapshot := mustCompile(t, &Set{Version: 1, Upstreams: map[string]Policy{
		"a": {Match: []Match{{Host: "a.test"}}},
		"b": {Match: []Match{{Host: "b.test"}}, Timeout: &Timeout{Attempt: time.Second}},
		"c": {Match: []Match{{Host: "c.test"}}, Timeout: &Timeout{Attempt: time.Second}, Retry: &Retry{Statuses: []int{503}}},
	}})
	a, b, c := &snapshot.Named("a").Policy, &snapshot.Named("b").Policy, &snapshot.Named("c").Policy
	if a.Retry != b.Retry || b.Timeout != c.Timeout || a.CircuitBreaker != c.CircuitBreaker {
		t.Error("equal sections are more than one")
	}
	if a.Timeout == b.Timeout || a.Timeout.Attempt == b.Timeout.Attempt || b.Retry == c.Retry || len(c.Retry.Statuses) != 1 {
		t.Error("sections that differ are one")
	}
}

// max_stale: none leaves the windows to the origin where fresh answers are
// served, and turns the section off where they are not.
func TestMaxStaleNone(t *testing.T) {
	for fresh, want := range map[bool]*Stale{false: nil, true: {After: time.Second, ServeFresh: true}} {
		p := one(t, Policy{}, Policy{Match: []Match{{Host: "a.test"}},
			Fallback: &Fallback{Static: &Static{Body: "x"}, Stale: &Stale{MaxStale: None, ServeFresh: fresh}}})
		if got := p.Fallback.Stale; !reflect.DeepEqual(got, want) {
			t.Errorf("serve_fresh %v: %+v, want %+v", fresh, got, want)
		}
	}
}
