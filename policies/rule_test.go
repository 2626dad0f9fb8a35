package policies

import (
	"reflect"
	"strings"
	"testing"
)

// Each value of the types has its rule, and each rule its value.
func TestRulesInStepWithTypes(t *testing.T) {
	leaves := map[string]bool{"version": true}
	var walk func(v reflect.Type, path string)
	walk = func(v reflect.Type, path string) {
		for v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() == reflect.Slice {
			leaves[path] = true
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			leaves[path] = true
			return
		}
		for _, k := range keysOf[v] {
			walk(k.typ, strings.TrimPrefix(path+"."+k.name, "."))
		}
	}
	walk(reflect.TypeFor[Policy](), "")
	for leaf := range leaves {
		if rules[leaf].write == "" {
			t.Errorf("%s has no rule", leaf)
		}
	}
	for path := range rules {
		if !leaves[path] {
			t.Errorf("the rule for %s is for nothing", path)
		}
	}
}

// The built-in values obey the rules.
func TestBuiltInObeysRules(t *testing.T) {
	set := &Set{Version: 1, Upstreams: map[string]Policy{"a": {
		Timeout: builtIn.Timeout, Retry: builtIn.Retry, RetryBudget: builtIn.RetryBudget, CircuitBreaker: builtIn.CircuitBreaker,
		Hedge: builtIn.Hedge, Idempotency: builtIn.Idempotency, OnAgentLoss: builtIn.OnAgentLoss,
	}}}
	if _, err := Compile(set); err != nil {
		t.Error(err)
	}
}

func TestAdviceOnKeys(t *testing.T) {
	for _, c := range []struct {
		in        reflect.Type
		key, want string
	}{
		{reflect.TypeFor[Retry](), "maxAttempts", "write max_attempts"},
		{reflect.TypeFor[Retry](), "max-attempts", "write max_attempts"},
		{reflect.TypeFor[Retry](), "attempts", "write max_attempts"},
		{reflect.TypeFor[Retry](), "status", "write statuses"},
		{reflect.TypeFor[Retry](), "budget", "the keys here are disabled, max_attempts, backoff, statuses, max_retry_after, pause"},
		{reflect.TypeFor[Retry](), "hedge", "write it one level up, beside the sections of the upstream"},
		{reflect.TypeFor[Policy](), "timeouts", "write timeout"},
		{reflect.TypeFor[Policy](), "circuitbreaker", "write circuit_breaker"},
		{reflect.TypeFor[Policy](), "max_stale", "write it inside fallback.stale"},
		{reflect.TypeFor[Policy](), "throttled_base", "write it inside retry.backoff"},
		{reflect.TypeFor[Policy](), "host", "write it inside match"},
		{reflect.TypeFor[Set](), "upstream", "write upstreams"},
		{reflect.TypeFor[Set](), "retry", "write it inside defaults, or inside an upstream"},
		{reflect.TypeFor[Match](), "hostname", "write host"},
		{reflect.TypeFor[Match](), "x", "the keys here are host, path, methods"},
	} {
		if got := adviseKey(c.in, c.key); got != c.want {
			t.Errorf("for %s in %s: %q, want %q", c.key, c.in.Name(), got, c.want)
		}
	}
}

func TestDurationTexts(t *testing.T) {
	for text, want := range map[string]string{
		"1h": "1h", "60m": "1h", "90s": "1m30s", "60s": "1m", "1h0m5s": "1h0m5s", "1500ms": "1.5s", "20m": "20m", "10h10m": "10h10m", "50us": "50µs", "none": "none",
	} {
		set, err := ParseJSON([]byte(`{"version":1,"defaults":{"timeout":{"attempt":"`+text+`"}}}`), "")
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := formatDuration(set.Defaults.Timeout.Attempt); got != want {
			t.Errorf("%s is written as %s, want %s", text, got, want)
		}
	}
}

func TestRateTexts(t *testing.T) {
	for text, want := range map[string]string{"200/s": "200/s", "90/m": "90/m", "0.5/s": "30/m", "120/m": "2/s", "100/m": "100/m", "1 / m": "1/m", "0.1/m": "0.0016666666666666668/s"} {
		rate, problem := parseRate(text)
		if problem != "" || rate.String() != want {
			t.Errorf("%s is %s (%s), want %s", text, rate, problem, want)
		}
		if again, _ := parseRate(rate.String()); again != rate {
			t.Errorf("%s comes back as %v, not %v", text, float64(again), float64(rate))
		}
	}
	for _, text := range []string{"", "/", "/s", "5", "5/", "5/h", "1e3/s", "0x10/s", "inf/s", "nan/s", "+5/s", "1_000/s", "--5/s", "5/s/s", ".5/s"} {
		if rate, problem := parseRate(text); problem == "" {
			t.Errorf("%q was read as the rate %v", text, rate)
		}
	}
}
