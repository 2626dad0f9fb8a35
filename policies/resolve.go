package policies

import (
	"math"
	"reflect"
	"slices"
	"time"
)

// Source says which layer a resolved value comes from.
type Source string

const (
	FromUpstream Source = "upstream" // written for the upstream itself
	FromDefaults Source = "defaults" // written in the set's defaults
	FromBuiltIn  Source = "built-in" // written nowhere
)

// builtIn is what named upstreams have where nothing is written. Its values
// are those of DESIGN.md, section 4. The sections that alwaysOn names are
// there unasked; the others give values to what people write of them.
var builtIn = Policy{
	Timeout: &Timeout{Attempt: 10 * time.Second, Idle: 60 * time.Second, Total: 30 * time.Second},
	Retry: &Retry{
		MaxAttempts:   3,
		Backoff:       Backoff{Base: 50 * time.Millisecond, ThrottledBase: time.Second},
		Statuses:      []int{408, 429, 502, 503, 504},
		MaxRetryAfter: 60 * time.Second,
		Pause:         PauseRetries,
	},
	RetryBudget: &RetryBudget{Capacity: 500, Scope: ScopeHost},
	Hedge:       &Hedge{Delay: P95, MaxExtraLoad: 0.05},
	CircuitBreaker: &CircuitBreaker{
		Mode: ModeTrip, Multiplier: 2, Statuses: []int{500, 502, 503, 504}, FailureRate: 0.5, MinRequests: 20, ConsecutiveFailures: 20,
		Window: 10 * time.Second, SlowCallRate: 0.5, OpenFor: 5 * time.Second, HalfOpenRequests: 1, Scope: ScopeHost,
	},
	Bulkhead:    &Bulkhead{MaxWait: 100 * time.Millisecond, MaxSharePerUID: 1, Scope: ScopeHost},
	RateLimit:   &RateLimit{MaxWait: 100 * time.Millisecond, Scope: ScopeHost},
	Idempotency: &Idempotency{Header: "Idempotency-Key", Methods: []string{"POST", "PATCH"}},
	Fallback: &Fallback{
		Statuses: []int{500, 502, 503, 504}, Stale: &Stale{After: time.Second},
		Static: &Static{Methods: []string{"GET", "HEAD", "OPTIONS", "TRACE"}, Status: 200},
	},
	Connections: &Connections{},
	Propagation: &Propagation{DeadlineUnit: UnitMilliseconds},
	OnAgentLoss: LossHold,
}

var alwaysOn = []string{"timeout", "retry", "retry_budget", "circuit_breaker"}

// Unnamed returns the policy of an authority that no policy names: retry,
// retry budget and breaker with their built-in values, an attempt timeout of
// 60 s and no other. The caller owns it.
func Unnamed() *Policy {
	p := merge(&Policy{Timeout: &Timeout{Attempt: 60 * time.Second, Idle: None, Total: None}}, &Policy{}, nil)
	complete(&p)
	return &p
}

// visitor is told of each value in a merge: its path in the policy, the field
// of the result, and the layer it comes from. For a section that is off,
// value is the nil pointer.
type visitor func(path string, value reflect.Value, from Source)

// merge lays an upstream's policy over the defaults over the built-in values.
// Sections that are off or disabled are nil in the result. Values that depend
// on others, and None, are left for [complete].
func merge(upstream, defaults *Policy, visit visitor) Policy {
	if visit == nil {
		visit = func(string, reflect.Value, Source) {}
	}
	result := Policy{Match: cloneMatches(upstream.Match)}
	m := merger{visit}
	m.section(reflect.ValueOf(&result).Elem(), [3]reflect.Value{
		reflect.ValueOf(upstream).Elem(), reflect.ValueOf(defaults).Elem(), reflect.ValueOf(&builtIn).Elem(),
	}, "")
	return result
}

func cloneMatches(matches []Match) []Match {
	matches = slices.Clone(matches)
	for i := range matches {
		matches[i].Methods = slices.Clone(matches[i].Methods)
	}
	return matches
}

type merger struct{ visit visitor }

var sources = [3]Source{FromUpstream, FromDefaults, FromBuiltIn}

// section merges structs. A layer that is not there is the zero Value.
func (m merger) section(result reflect.Value, layers [3]reflect.Value, path string) {
	for _, k := range keysOf[result.Type()] {
		at := k.name
		if path != "" {
			at = path + "." + k.name
		}
		if k.name == "match" || k.name == "disabled" {
			continue
		}
		var fields [3]reflect.Value
		for i, layer := range layers {
			if layer.IsValid() {
				fields[i] = layer.Field(k.index)
			}
		}
		switch field := result.Field(k.index); field.Kind() {
		case reflect.Pointer:
			m.pointer(field, fields, at)
		case reflect.Struct:
			m.section(field, fields, at)
		default:
			m.leaf(field, fields, at)
		}
	}
}

// pointer merges a section that may be off. The nearest layer in which it is
// written says whether it is disabled.
func (m merger) pointer(result reflect.Value, layers [3]reflect.Value, path string) {
	written := -1
	for i, layer := range layers {
		if !layer.IsValid() || layer.IsNil() {
			layers[i] = reflect.Value{}
			continue
		}
		layers[i] = layer.Elem()
		if written < 0 {
			written = i
		}
	}
	if written < 0 || written == 2 && !slices.Contains(alwaysOn, path) {
		m.visit(path, result, FromBuiltIn)
		return
	}
	if disabled := layers[written].FieldByName("Disabled"); disabled.IsValid() && disabled.Bool() {
		m.visit(path, result, sources[written])
		return
	}
	result.Set(reflect.New(result.Type().Elem()))
	m.section(result.Elem(), layers, path)
}

// leaf takes the nearest value that is said.
func (m merger) leaf(result reflect.Value, layers [3]reflect.Value, path string) {
	from := FromBuiltIn
	for i, layer := range layers {
		if layer.IsValid() && !layer.IsZero() {
			result.Set(cloneValue(layer))
			from = sources[i]
			break
		}
	}
	m.visit(path, result, from)
}

// cloneValue copies what a value points to, so that a snapshot shares
// nothing with the set it was compiled from.
func cloneValue(v reflect.Value) reflect.Value {
	switch x := v.Interface().(type) {
	case []int:
		return reflect.ValueOf(slices.Clone(x))
	case []string:
		return reflect.ValueOf(slices.Clone(x))
	case map[string]string:
		clone := make(map[string]string, len(x))
		for k, v := range x {
			clone[k] = v
		}
		return reflect.ValueOf(clone)
	}
	return v
}

// complete gives a merged policy the built-in values that depend on others,
// and makes None the zero that it means in a resolved policy.
func complete(p *Policy) {
	if r := p.Retry; r != nil && r.Backoff.Max == 0 {
		r.Backoff.Max = max(20*time.Second, r.Backoff.Base, r.Backoff.ThrottledBase)
	}
	if c := p.CircuitBreaker; c != nil && c.MaxOpenFor == 0 {
		c.MaxOpenFor = max(60*time.Second, c.OpenFor)
	}
	if b := p.Bulkhead; b != nil && b.MaxWaiting == 0 {
		b.MaxWaiting = min(2*b.MaxConcurrent, MaxLimit)
	}
	if l := p.RateLimit; l != nil && l.Burst == 0 {
		l.Burst = int(min(max(1, math.Ceil(float64(l.Rate))), MaxLimit))
	}
	if f := p.Fallback; f != nil && f.Stale != nil && f.Stale.MaxStale == None && !f.Stale.ServeFresh {
		f.Stale = nil
	}
	zeroNone(reflect.ValueOf(p).Elem())
}

func zeroNone(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			zeroNone(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			zeroNone(v.Field(i))
		}
	case reflect.Int, reflect.Int64:
		if v.Int() == None {
			v.SetInt(0)
		}
	}
}
