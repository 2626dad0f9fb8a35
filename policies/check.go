package policies

import (
	"fmt"
	"maps"
	"net/textproto"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// finding is an error of [check]. One with dependsOn is only worth telling
// where nothing else is wrong in those sections.
type finding struct {
	*Error
	dependsOn []string
}

type checker struct {
	set      *Set
	findings []finding
	matches  map[matchKey]matchOwner
	missing  map[string]bool // defaults already reported as incomplete
}

// check finds everything wrong with a set.
func check(set *Set) []finding {
	c := checker{set: set, matches: map[matchKey]matchOwner{}, missing: map[string]bool{}}
	c.version()
	if len(set.Defaults.Match) > 0 {
		c.fail("defaults.match", "defaults are for all upstreams and match nothing", "move it to an upstream")
	}
	c.values(reflect.ValueOf(&set.Defaults).Elem(), "defaults", "")
	if n := len(set.Upstreams); n > MaxUpstreams {
		c.fail("upstreams", fmt.Sprintf("there are %d", n), fmt.Sprintf("write at most %d", MaxUpstreams))
		return c.findings
	}
	for _, name := range slices.Sorted(maps.Keys(set.Upstreams)) {
		path := join("upstreams", name)
		if problem, want := checkName(name); problem != "" {
			c.fail(path, problem, want)
		}
		upstream := set.Upstreams[name]
		c.values(reflect.ValueOf(&upstream).Elem(), path, "")
		c.resolved(path, &upstream)
		c.ties(path, upstream.Match)
	}
	return c.findings
}

func (c *checker) fail(path, problem, want string, dependsOn ...string) {
	c.findings = append(c.findings, finding{
		&Error{Path: path, Position: c.at(path), Problem: problem, Want: want},
		dependsOn,
	})
}

// at gives the position of a path, or of the nearest section around it that
// was written.
func (c *checker) at(path string) Position {
	for {
		if p, ok := c.set.Origin[path]; ok || path == "" {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

func (c *checker) version() {
	switch c.set.Version {
	case 1:
	case 0:
		c.fail("version", "is missing", "begin with version: 1")
	default:
		c.fail("version", fmt.Sprintf("%d is not known", c.set.Version), "write version: 1")
	}
}

// values holds each value that is said to its rule.
func (c *checker) values(v reflect.Value, path, kind string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.values(v.Elem(), path, kind)
		}
	case reflect.Struct:
		for _, k := range keysOf[v.Type()] {
			below := k.name
			if kind != "" {
				below = kind + "." + k.name
			}
			c.values(v.Field(k.index), path+"."+k.name, below)
		}
		switch x := v.Addr().Interface().(type) {
		case *Match:
			if x.Host == "" {
				c.fail(path+".host", "is missing", rules["match.host"].want(), path)
			}
		case *Static:
			c.static(x, path)
		}
	case reflect.Slice:
		c.list(v, path, kind)
	case reflect.Map:
	default:
		if v.IsZero() {
			break
		}
		if problem, want := rules[kind].value(v); problem != "" {
			c.fail(path, problem, want)
		}
	}
}

func (c *checker) list(v reflect.Value, path, kind string) {
	if v.Len() > maxList {
		c.fail(path, fmt.Sprintf("the list has %d entries", v.Len()), fmt.Sprintf("write at most %d", maxList))
		return
	}
	seen := map[any]bool{}
	for i := range v.Len() {
		at := path + "[" + strconv.Itoa(i) + "]"
		item := v.Index(i)
		if item.Kind() == reflect.Struct {
			c.values(item, at, kind)
			continue
		}
		if item.IsZero() && c.set.Origin != nil {
			continue // the decoder has said what is wrong with it
		}
		if problem, want := rules[kind].value(item); problem != "" {
			c.fail(at, problem, want)
		} else if seen[item.Interface()] {
			c.fail(at, fmt.Sprintf("%v is in the list twice", item.Interface()), "write it once")
		}
		seen[item.Interface()] = true
	}
}

// maxList bounds every list of a policy.
const maxList = 1024

func (c *checker) static(s *Static, path string) {
	if (s.Status == 204 || s.Status == 205 || s.Status == 304) && s.Body != "" {
		c.fail(path+".body", fmt.Sprintf("an answer with status %d has no body", s.Status), "leave out the body, or write another status")
	}
	if len(s.Headers) > maxList {
		c.fail(path+".headers", fmt.Sprintf("there are %d headers", len(s.Headers)), fmt.Sprintf("write at most %d", maxList))
		return
	}
	canonical := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		at := join(path+".headers", name)
		if problem, want := checkHeaderName(name); problem != "" {
			c.fail(at, problem, want)
			continue
		}
		if problem, want := checkHeaderValue(s.Headers[name]); problem != "" {
			c.fail(at, problem, want)
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		if other, again := canonical[key]; again {
			c.fail(at, "is the same header as "+other, "write one of the two")
		}
		if canonical[key] = name; key == "Content-Type" {
			c.fail(at, "the type has a key of its own", "write content_type beside headers")
		}
	}
}

// resolved judges what an upstream is once it has inherited.
func (c *checker) resolved(path string, upstream *Policy) {
	p := merge(upstream, &c.set.Defaults, nil)
	if p.Bulkhead != nil && p.Bulkhead.MaxConcurrent == 0 {
		c.require(path, "bulkhead", "max_concurrent", upstream.Bulkhead != nil)
	}
	if p.RateLimit != nil && p.RateLimit.Rate == 0 {
		c.require(path, "rate_limit", "rate", upstream.RateLimit != nil)
	}
	if p.Connections != nil && p.Connections.MaxPerHost == 0 {
		c.require(path, "connections", "max_per_host", upstream.Connections != nil)
	}
	if f := p.Fallback; f != nil && f.Stale != nil && f.Stale.MaxStale == 0 {
		c.require(path, "fallback.stale", "max_stale", upstream.Fallback != nil && upstream.Fallback.Stale != nil)
	}
	if f := p.Fallback; f != nil && f.Stale == nil && f.Static == nil {
		c.pair(path, "fallback", "", "says nothing", "write stale: {max_stale: 1h} or static: {...} in it, or disabled: true")
	}
	if p.OnAgentLoss == LossLocal {
		c.local(path, &p)
	}
	if b := p.Retry; b != nil && b.Backoff.Max != 0 && b.Backoff.Max < b.Backoff.Base {
		c.pair(path, "retry.backoff", ".max", fmt.Sprintf("%s is below base, %s", formatDuration(b.Backoff.Max), formatDuration(b.Backoff.Base)), "write at least base")
	}
	if b := p.CircuitBreaker; b != nil && b.MaxOpenFor != 0 && b.MaxOpenFor < b.OpenFor {
		c.pair(path, "circuit_breaker", ".max_open_for", fmt.Sprintf("%s is below open_for, %s", formatDuration(b.MaxOpenFor), formatDuration(b.OpenFor)), "write at least open_for")
	}
	if b := p.CircuitBreaker; b != nil && p.Timeout.Attempt > 0 && b.SlowCallDuration >= p.Timeout.Attempt {
		c.pair(path, "circuit_breaker", ".slow_call_duration", fmt.Sprintf("%s is not below timeout.attempt, %s", formatDuration(b.SlowCallDuration), formatDuration(p.Timeout.Attempt)), "write less, or none")
	}
	c.hedge(path, &p)
	c.bare(path, upstream)
	c.serveFresh(path, upstream)
}

// hedge refuses a delay at which nothing is left to hedge.
func (c *checker) hedge(path string, p *Policy) {
	if p.Hedge == nil || p.Hedge.Delay == P95 {
		return
	}
	for _, end := range []struct {
		key  string
		time time.Duration
	}{{"timeout.attempt", p.Timeout.Attempt}, {"timeout.total", p.Timeout.Total}} {
		if end.time > 0 && p.Hedge.Delay >= end.time {
			c.pair(path, "hedge", ".delay", fmt.Sprintf("%s is not below %s, %s", formatDuration(p.Hedge.Delay), end.key, formatDuration(end.time)), "write less, or p95")
			return
		}
	}
}

// local asks for the limits that on_agent_loss: local is about.
func (c *checker) local(path string, p *Policy) {
	const problem = "is missing, and on_agent_loss is local"
	if b := p.Bulkhead; b != nil && b.Scope == ScopeHost && b.LocalMaxConcurrent == 0 {
		c.pair(path, "bulkhead", ".local_max_concurrent", problem, "write each process's limit, 1 or more")
	}
	if l := p.RateLimit; l != nil && l.Scope == ScopeHost && l.LocalRate == 0 {
		c.pair(path, "rate_limit", ".local_rate", problem, "write each process's rate, such as 10/s")
	}
}

// bare refuses what could not be obeyed: false over true in the defaults is
// the same as nothing said.
func (c *checker) bare(path string, upstream *Policy) {
	defaults := c.set.Defaults.Idempotency
	_, written := c.set.Origin[path+".idempotency.bare"]
	if written && !upstream.Idempotency.Bare && defaults != nil && defaults.Bare {
		c.fail(path+".idempotency.bare", "false does not undo the true of defaults", "take bare: true out of defaults, and write it where it is meant")
	}
}

// serveFresh is bare for fallback.stale.serve_fresh.
func (c *checker) serveFresh(path string, upstream *Policy) {
	defaults := c.set.Defaults.Fallback
	_, written := c.set.Origin[path+".fallback.stale.serve_fresh"]
	if written && !upstream.Fallback.Stale.ServeFresh && defaults != nil && defaults.Stale != nil && defaults.Stale.ServeFresh {
		c.fail(path+".fallback.stale.serve_fresh", "false does not undo the true of defaults", "take serve_fresh: true out of defaults, and write it where it is meant")
	}
}

// require reports a value that a section must state. A section that is
// written in the defaults alone is reported there, once.
func (c *checker) require(path, section, key string, written bool) {
	kind := section + "." + key
	inherited := "defaults." + section
	if written {
		c.fail(path+"."+kind, "is missing", rules[kind].want(), path+"."+section, inherited)
		return
	}
	if !c.missing[inherited] {
		c.missing[inherited] = true
		c.fail("defaults."+kind, "is missing, and "+path+" inherits the section", rules[kind].want(), inherited)
	}
}

// pair reports a value that does not go with another: at the upstream's own
// section, else at the defaults'.
func (c *checker) pair(path, section, key, problem, want string) {
	c.fail(path+"."+section+key, problem, want, path+"."+section, "defaults."+section, path+".on_agent_loss")
}
