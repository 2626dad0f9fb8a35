package transport

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/resagent/resagent/policies"
)

// Tokens that a retry reserves from the budget: the AWS SDKs' figures of 2026.
const (
	retryCost     = 14
	throttledCost = 5
)

// facts are what the decision about another attempt rests on.
type facts struct {
	attempt, tries int // sent so far, and at most
	method         string
	status         int  // 0: a transport error, or an attempt timeout
	neverSent      bool // this attempt
	below          bool // the call is part of a retry of another layer
	maybe          bool // an earlier attempt may have reached the upstream
	keyed          bool // the request carries an idempotency key
	minted         bool // the policy says that the upstream honours it
	preconditioned bool // If-Match and its kin
	replayable     bool // the body can be sent from its beginning
	after          time.Duration
	hasAfter       bool
	left           time.Duration // to the deadline
	random         float64       // in [0, 1)
}

// plan is the decision.
type plan struct {
	again bool
	wait  time.Duration
	cost  int
	why   string // why not, where the result was worth repeating
}

// decide says whether another attempt follows, and when.
func decide(p *policies.Retry, f facts) plan {
	switch {
	case f.status == http.StatusConflict:
		// The answer to a repetition while the first request is still at work.
		if !f.keyed || !f.minted || !f.maybe {
			return plan{}
		}
	case f.status != 0 && !slices.Contains(p.Statuses, f.status):
		return plan{}
	}
	switch {
	case f.attempt >= f.tries && f.below:
		return plan{why: "the request is itself a retry"}
	case f.attempt >= f.tries && f.tries < p.MaxAttempts:
		return plan{why: "a stored answer is there"}
	case f.attempt >= f.tries:
		return plan{why: "max_attempts reached"}
	case !f.replayable:
		return plan{why: bodyGone}
	case f.neverSent:
	case !repeatable(f.method, f.keyed):
		return plan{why: "method " + f.method + " without idempotency key"}
	case f.preconditioned && !safe(f.method):
		return plan{why: "its own success would fail its precondition"}
	}

	throttled := f.status == http.StatusTooManyRequests || f.status == http.StatusServiceUnavailable && f.hasAfter
	base, cost := p.Backoff.Base, retryCost
	if throttled {
		base, cost = p.Backoff.ThrottledBase, throttledCost
	}
	wait := backoff(base, p.Backoff.Max, f.attempt, f.random)
	if f.hasAfter {
		if f.after > p.MaxRetryAfter {
			return plan{why: "Retry-After is longer than max_retry_after"}
		}
		wait = max(wait, f.after)
	}
	if wait >= f.left {
		return plan{why: "the deadline comes first"}
	}
	return plan{again: true, wait: wait, cost: cost}
}

// backoff is exponential with full jitter: even over [0, min(most, base x
// 2^(attempt-1))).
// Source: Brooker, "Exponential Backoff And Jitter", AWS 2015.
func backoff(base, most time.Duration, attempt int, random float64) time.Duration {
	limit := math.Ldexp(float64(base), attempt-1)
	if most > 0 {
		limit = min(limit, float64(most))
	}
	return time.Duration(random * limit)
}

// repeatable says whether a request may be sent twice, by its method (RFC
// 9110, section 9.2.2) or by its key.
func repeatable(method string, keyed bool) bool {
	return keyed || safe(method) || method == http.MethodPut || method == http.MethodDelete
}

// safe methods change nothing (RFC 9110, section 9.2.1).
func safe(method string) bool {
	switch method {
	case http.MethodGet, "", http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// retryAfter reads the field as RFC 9110, section 10.2.3 has it: seconds, or
// one of the three forms of a date. A date that has passed is 0.
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, false
	}
	if strings.Trim(value, "0123456789") == "" {
		s, err := strconv.ParseInt(value, 10, 64)
		if err != nil || s > int64(math.MaxInt64/time.Second) {
			return math.MaxInt64, true
		}
		return time.Duration(s) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}
