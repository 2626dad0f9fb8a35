package policies

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// rule says what one value may be. Both the decoder and Compile go by it.
type rule struct {
	// write completes "write ..." in a message.
	write string
	// min and max bound a number, ns for a duration; zero means no bound.
	min, max float64
	// none says that [None] makes sense, and so that 0 in a file means it.
	none bool
	// p95 says that [P95] makes sense, and so "p95" in a file.
	p95 bool
	// empty says that a list or text may be there and empty.
	empty bool
	// oneOf are the words allowed.
	oneOf []string
	// check judges a text, or each text of a list.
	check func(text string) (problem, want string)
	// never are numbers inside the bounds that are refused all the same; why
	// says of one what is the matter.
	never []int
	why   string
}

func count(what string) rule { return rule{write: what, min: 1, max: MaxLimit} }

// shortest is the least duration that can be meant: a number in Go that was not
// multiplied by a unit is nanoseconds.
const shortest = float64(time.Microsecond)

func duration(example string) rule {
	return rule{write: "a duration such as " + example, min: shortest, max: float64(maxDuration)}
}

// backoffs may be next to nothing.
func backoff(example string) rule {
	r := duration(example)
	r.min = 1
	return r
}

func orNone(r rule) rule {
	r.none = true
	r.write += ", or none"
	return r
}

func text(write string, check func(string) (string, string)) rule {
	return rule{write: write, check: check}
}

var (
	fraction   = rule{write: "a number above 0 and at most 1, such as 0.5", min: math.SmallestNonzeroFloat64, max: 1}
	perSecond  = rule{write: "a rate such as 200/s or 90/m", min: minRate, max: MaxLimit}
	scopes     = rule{write: "host or process", oneOf: []string{string(ScopeHost), string(ScopeProcess)}}
	yesNo      = rule{write: "true or false"}
	methodList = text("methods in capitals, such as [GET, POST]", checkMethod)
)

// rules has a line for every value of a policy, by its path in the policy. A
// test holds it to the types.
var rules = map[string]rule{
	"version": {write: "version: 1", min: 1, max: 1},

	"match":         {write: `a list such as [{host: payments.internal}]`, empty: true},
	"match.host":    text(`a host such as payments.internal, "*.example.com" or "[::1]:8080"`, checkHost),
	"match.path":    text("a path prefix such as /v1", checkPath),
	"match.methods": methodList,

	"timeout.attempt": orNone(duration("10s")),
	"timeout.idle":    orNone(duration("60s")),
	"timeout.total":   orNone(duration("30s")),

	"retry.disabled":               yesNo,
	"retry.max_attempts":           count("a number of attempts, 1 or more"),
	"retry.backoff.base":           orNone(backoff("50ms")),
	"retry.backoff.throttled_base": orNone(backoff("1s")),
	"retry.backoff.max":            backoff("20s"),
	"retry.statuses":               {write: "statuses from 400 to 599, such as [429, 503]", min: 400, max: 599, empty: true, never: []int{400, 401, 403, 404}, why: "is never retried"},
	"retry.max_retry_after":        orNone(duration("60s")),
	"retry.pause":                  {write: "retries, all or off", oneOf: []string{string(PauseRetries), string(PauseAll), string(PauseOff)}},

	"retry_budget.disabled": yesNo,
	"retry_budget.capacity": count("a number of tokens, 1 or more; a retry takes 14"),
	"retry_budget.scope":    scopes,

	"hedge.disabled":       yesNo,
	"hedge.delay":          {write: "a duration such as 50ms, or p95", min: shortest, max: float64(maxDuration), p95: true},
	"hedge.max_extra_load": fraction,

	"circuit_breaker.disabled":             yesNo,
	"circuit_breaker.mode":                 {write: "trip or proportional", oneOf: []string{string(ModeTrip), string(ModeProportional)}},
	"circuit_breaker.multiplier":           {write: "a number from 1 to 100, such as 2", min: 1, max: 100},
	"circuit_breaker.statuses":             {write: "statuses from 400 to 599, such as [502, 503, 504]", min: 400, max: 599, empty: true, never: []int{400, 401, 403, 404}, why: "says what is wrong with the request, not with the upstream"},
	"circuit_breaker.failure_rate":         fraction,
	"circuit_breaker.min_requests":         count("a number of requests, 1 or more"),
	"circuit_breaker.consecutive_failures": orNone(count("a number of failures, 1 or more")),
	"circuit_breaker.window":               {write: "a duration of at least 10ms, such as 10s", min: float64(10 * time.Millisecond), max: float64(maxDuration)},
	"circuit_breaker.slow_call_duration":   orNone(duration("2s")),
	"circuit_breaker.slow_call_rate":       fraction,
	"circuit_breaker.open_for":             duration("5s"),
	"circuit_breaker.max_open_for":         duration("60s"),
	"circuit_breaker.half_open_requests":   count("a number of probes, 1 or more"),
	"circuit_breaker.scope":                scopes,

	"bulkhead.disabled":             yesNo,
	"bulkhead.max_concurrent":       count("a number of calls, 1 or more"),
	"bulkhead.max_waiting":          orNone(count("a number of calls, 1 or more")),
	"bulkhead.max_wait":             orNone(duration("100ms")),
	"bulkhead.max_share_per_uid":    fraction,
	"bulkhead.scope":                scopes,
	"bulkhead.local_max_concurrent": count("a number of calls, 1 or more"),

	"rate_limit.disabled":   yesNo,
	"rate_limit.rate":       perSecond,
	"rate_limit.burst":      count("a number of calls, 1 or more"),
	"rate_limit.max_wait":   orNone(duration("100ms")),
	"rate_limit.scope":      scopes,
	"rate_limit.local_rate": perSecond,

	"idempotency.disabled": yesNo,
	"idempotency.header":   text("the name of a header, such as Idempotency-Key", checkHeaderName),
	"idempotency.bare":     yesNo,
	"idempotency.methods":  methodList,

	"fallback.disabled":            yesNo,
	"fallback.statuses":            {write: "statuses from 400 to 599, such as [500, 503]", min: 400, max: 599, empty: true, never: []int{401, 403}, why: "says that this caller may not see the answer"},
	"fallback.stale.max_stale":     orNone(duration("1h")),
	"fallback.stale.after":         orNone(duration("1s")),
	"fallback.stale.serve_fresh":   yesNo,
	"fallback.static.methods":      methodList,
	"fallback.static.status":       {write: "a status from 200 to 599", min: 200, max: 599},
	"fallback.static.content_type": text("a media type such as application/json", checkMediaType),
	"fallback.static.headers":      {write: "headers such as {X-Answer: fixed}", empty: true},
	"fallback.static.body":         {write: `a text in quotes, such as "[]"`, empty: true, check: checkBody},

	"connections.disabled":     yesNo,
	"connections.max_per_host": count("a number of connections, 1 or more"),

	"propagation.disabled":        yesNo,
	"propagation.attempt_header":  text("the name of a header, such as X-Attempt", checkHeaderName),
	"propagation.deadline_header": text("the name of a header, such as X-Request-Timeout-Ms", checkHeaderName),
	"propagation.deadline_unit":   {write: "ms or s", oneOf: []string{string(UnitMilliseconds), string(UnitSeconds)}},

	"on_agent_loss": {write: "hold, strict, local or open", oneOf: []string{string(LossHold), string(LossStrict), string(LossLocal), string(LossOpen)}},
}

// want is the rule's "write ...", for a message.
func (r rule) want() string { return "write " + r.write }

// number judges n, written as text.
func (r rule) number(n float64, text string) (problem string) {
	switch {
	case math.IsNaN(n) || math.IsInf(n, 0):
		return text + " is not a number"
	case r.none && n == None:
		return ""
	case r.min != 0 && r.min == r.max && n != r.min:
		return text + " is not known"
	case r.min != 0 && n < r.min:
		if n <= 0 && r.min < 1 {
			return text + " is not above 0"
		}
		return fmt.Sprintf("%s is below %s", text, plain(r.min))
	case r.max != 0 && n > r.max:
		return fmt.Sprintf("%s is above %s", text, plain(r.max))
	case slices.Contains(r.never, int(n)):
		return text + " " + r.why
	}
	return ""
}

func plain(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// value judges a value that has been said; zero values say nothing, and are
// the caller's business.
func (r rule) value(v reflect.Value) (problem, want string) {
	switch x := v.Interface().(type) {
	case time.Duration:
		return r.span(x), r.want()
	case Rate:
		return r.rate(x, ""), r.want()
	}
	switch v.Kind() {
	case reflect.Int:
		return r.number(float64(v.Int()), strconv.FormatInt(v.Int(), 10)), r.want()
	case reflect.Float64:
		return r.number(v.Float(), plain(v.Float())), r.want()
	case reflect.String:
		return r.text(v.String())
	}
	return "", ""
}

func (r rule) span(d time.Duration) (problem string) {
	switch {
	case r.none && d == None, r.p95 && d == P95:
		return ""
	case d < 0:
		return d.String() + " is below zero"
	case float64(d) < r.min:
		return fmt.Sprintf("%s is below %s", formatDuration(d), formatDuration(time.Duration(r.min)))
	case float64(d) > r.max:
		return fmt.Sprintf("%s is above %s", formatDuration(d), formatDuration(time.Duration(r.max)))
	}
	return ""
}

func (r rule) rate(n Rate, written string) (problem string) {
	if written == "" {
		written = n.String()
	}
	if n > 0 && float64(n) < r.min {
		return quote(written) + " is below one call an hour"
	}
	if float64(n) > r.max {
		return quote(written) + " is above " + plain(r.max) + "/s"
	}
	return r.number(float64(n), quote(written))
}

func (r rule) text(s string) (problem, want string) {
	if s == "" && !r.empty {
		return "is an empty text", r.want()
	}
	if r.oneOf != nil && !slices.Contains(r.oneOf, s) {
		return quote(s) + " is not known", r.want()
	}
	if r.check == nil {
		return "", ""
	}
	if problem, want = r.check(s); problem != "" && want == "" {
		want = r.want()
	}
	return problem, want
}
