package policies

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	retryTokens     = 14 // of the budget, for a retry or a hedge
	throttledTokens = 5
)

// tries reports whether a call may be sent more than once.
func (l *lint) tries() bool { return l.p.Retry != nil && l.p.Retry.MaxAttempts > 1 }

func (l *lint) timeouts() {
	attempt, total := l.p.Timeout.Attempt, l.p.Timeout.Total
	if attempt == 0 && total == 0 && l.p.Bulkhead != nil {
		l.warn("no-timeout", "a call that gets no answer holds its permit of the bulkhead until its caller gives up",
			"write attempt or total", "timeout.attempt", "timeout.total")
	}
	if attempt == 0 || total == 0 {
		return
	}
	if attempt > total && (l.tries() || l.written("timeout.attempt")) {
		l.warn("attempt-over-total",
			fmt.Sprintf("attempt, %s, is over total, %s: an attempt without an answer is ended by total, and never retried", formatDuration(attempt), formatDuration(total)),
			"write attempt below total, such as "+formatDuration(portion(total, l.attempts())), "timeout.attempt", "timeout.total")
		return
	}
	if n := l.attempts(); n > 1 && time.Duration(n-1) >= (total+attempt-1)/attempt {
		fit := int((total + attempt - 1) / attempt)
		l.warn("attempts-do-not-fit",
			fmt.Sprintf("of %d attempts of %s each only %d can begin within total, %s, where the upstream gives no answer", n, formatDuration(attempt), fit, formatDuration(total)),
			fmt.Sprintf("write max_attempts: %d, attempt: %s, or a total above %s", fit, formatDuration(portion(total, n)), formatDuration(attempt*time.Duration(n-1))),
			"retry.max_attempts", "timeout.total", "timeout.attempt")
	}
	for _, wait := range []struct {
		path string
		time time.Duration
		on   bool
	}{
		{"bulkhead.max_wait", l.bulkheadWait(), l.p.Bulkhead != nil},
		{"rate_limit.max_wait", l.rateWait(), l.p.RateLimit != nil},
	} {
		if wait.on && wait.time >= total {
			l.warn("wait-over-total", fmt.Sprintf("%s is not below timeout.total, %s: a call may wait until no time is left to send it", formatDuration(wait.time), formatDuration(total)),
				"write less", wait.path, "timeout.total")
		}
	}
}

// attempts of one call at most.
func (l *lint) attempts() int {
	if l.p.Retry == nil {
		return 1
	}
	return l.p.Retry.MaxAttempts
}

// portion is a time that goes n times into d, in a number that people write.
func portion(d time.Duration, n int) time.Duration {
	part := d / time.Duration(max(n, 2))
	for _, unit := range []time.Duration{time.Second, 100 * time.Millisecond, time.Millisecond, time.Microsecond} {
		if part >= unit {
			return part.Truncate(unit)
		}
	}
	return max(part, 1)
}

func (l *lint) bulkheadWait() time.Duration {
	if l.p.Bulkhead == nil {
		return 0
	}
	return l.p.Bulkhead.MaxWait
}

func (l *lint) rateWait() time.Duration {
	if l.p.RateLimit == nil {
		return 0
	}
	return l.p.RateLimit.MaxWait
}

func (l *lint) retries() {
	budget := l.p.RetryBudget
	if l.tries() && budget == nil {
		l.warn("retry-without-budget", fmt.Sprintf("while everything fails each call is sent up to %d times, by every process", l.attempts()),
			"take disabled: true out of retry_budget, or write retry: {disabled: true}", "retry_budget.disabled")
	}
	if budget != nil && budget.Capacity < retryTokens && (l.tries() || l.p.Hedge != nil) {
		pays := "only for one where the upstream throttled"
		if budget.Capacity < throttledTokens {
			pays = "for none"
		}
		l.warn("budget-below-a-retry", fmt.Sprintf("a retry takes %d tokens, %d where the upstream throttled, and %d pay %s", retryTokens, throttledTokens, budget.Capacity, pays),
			fmt.Sprintf("write %d or more, or retry: {disabled: true}", 10*retryTokens), "retry_budget.capacity")
	}
	if k := l.p.Idempotency; k != nil && !l.tries() {
		l.warn("idempotency-without-retry", "calls get a key that makes them safe to retry, and none is retried",
			"turn retry on, or leave idempotency out", "idempotency", "retry.disabled", "retry.max_attempts")
	} else if k != nil && !l.methods(k.Methods...) {
		l.warn("idempotency-without-calls", "keys are for "+strings.Join(k.Methods, ", ")+", and no match lets such a call in",
			"write these methods in a match, or leave idempotency out", "idempotency.methods", "idempotency")
	}
	if l.p.Hedge != nil && !l.methods("GET", "HEAD") {
		l.warn("hedge-without-reads", "only GET and HEAD are hedged, and no match lets them in",
			"leave hedge out", "hedge")
	}
}

func (l *lint) limits() {
	if b, c := l.p.Bulkhead, l.p.Connections; b != nil && c != nil && l.oneHost() {
		most, whose := b.MaxConcurrent, "each process may have"
		if b.Scope != ScopeProcess {
			most, whose = max(1, int(float64(most)*b.MaxSharePerUID+1e-9)), "one process alone may have"
		}
		if most > c.MaxPerHost {
			l.warn("bulkhead-over-connections",
				fmt.Sprintf("%s %d calls in flight and %d connections: over HTTP/1.1 the rest wait for a connection while their attempt timeout runs, and the upstream is blamed", whose, most, c.MaxPerHost),
				fmt.Sprintf("write max_per_host: %d, or a smaller max_concurrent", most), "connections.max_per_host", "bulkhead.max_concurrent")
		}
	}
	if r := l.p.RateLimit; r != nil && r.MaxWait > 0 && r.MaxWait < r.Rate.Every() && l.says("rate_limit.max_wait") {
		l.warn("wait-below-a-token", fmt.Sprintf("a token comes every %s, and a call waits at most %s for it: most that wait are refused after it", formatDuration(r.Rate.Every().Round(time.Millisecond)), formatDuration(r.MaxWait)),
			"write more, or none, which refuses them at once", "rate_limit.max_wait")
	}
	if l.p.OnAgentLoss == LossLocal {
		if b := l.p.Bulkhead; b != nil && b.Scope != ScopeProcess && b.LocalMaxConcurrent > b.MaxConcurrent {
			l.warn("local-over-host", fmt.Sprintf("without the agent each process may have %d calls in flight, and with it all together %d", b.LocalMaxConcurrent, b.MaxConcurrent),
				"write max_concurrent divided by the number of processes", "bulkhead.local_max_concurrent")
		}
		if r := l.p.RateLimit; r != nil && r.Scope != ScopeProcess && r.LocalRate > r.Rate {
			l.warn("local-over-host", fmt.Sprintf("without the agent each process may call at %s, and with it all together at %s", r.LocalRate, r.Rate),
				"write rate divided by the number of processes", "rate_limit.local_rate")
		}
	}
}

// oneHost reports whether all requests that come by their URL go to one host.
func (l *lint) oneHost() bool {
	for i, m := range l.p.Match {
		host, _, _ := parseHost(m.Host)
		first, _, _ := parseHost(l.p.Match[0].Host)
		if host.wildcard || i > 0 && host != first {
			return false
		}
	}
	return len(l.p.Match) > 0
}

func (l *lint) breaker() {
	b, r := l.p.CircuitBreaker, l.p.RateLimit
	if b == nil || b.Mode == ModeProportional || r == nil || r.Scope == ScopeProcess && b.Scope != ScopeProcess {
		return
	}
	// The built-in numbers are for busy upstreams; that a slow one has only the
	// run of failures is as it should be. Written ones are meant to count.
	if !l.written("circuit_breaker.min_requests") && !l.written("circuit_breaker.window") && !l.written("circuit_breaker.failure_rate") && b.ConsecutiveFailures > 0 {
		return
	}
	if most := float64(r.Burst) + float64(r.Rate)*b.Window.Seconds(); most < float64(b.MinRequests) {
		left := "only consecutive_failures opens the circuit"
		if b.ConsecutiveFailures == 0 {
			left = "nothing opens the circuit"
		}
		l.warn("breaker-never-counts",
			fmt.Sprintf("the rate limit lets at most %d calls begin in a window of %s, and a rate counts from %d: %s", int(most), formatDuration(b.Window), b.MinRequests, left),
			fmt.Sprintf("write min_requests of at most %d, or a window of %s", max(1, int(most)), formatDuration(windowFor(b.MinRequests, r))),
			"circuit_breaker.min_requests", "circuit_breaker.window", "circuit_breaker.failure_rate", "circuit_breaker.consecutive_failures")
	}
}

// windowFor is a window in which so many calls can begin, in whole seconds.
func windowFor(calls int, r *RateLimit) time.Duration {
	return time.Duration(math.Ceil(float64(calls-r.Burst)/float64(r.Rate))) * time.Second
}

func (l *lint) fallbacks() {
	f := l.p.Fallback
	if f == nil {
		return
	}
	if f.Stale == nil && f.Static == nil {
		l.warn("fallback-says-nothing", "there is neither a stale nor a fixed answer to give", "write max_stale: 1h or static, or disabled: true", "fallback.stale.max_stale", "fallback")
	} else if f.Stale == nil && l.says("fallback.stale.max_stale") {
		own := l.snapshot.set.Upstreams[l.name].Fallback.Stale
		if own.After != 0 || own.ServeFresh {
			l.warn("stale-is-off", "max_stale: none turns stale answers off, and what is said of them has no effect", "write how old they may be, such as 1h, or max_stale: none alone", "fallback.stale.max_stale")
		}
	}
	if f.Static != nil && !l.methods(f.Static.Methods...) {
		l.warn("static-without-calls", "the fixed answer is for "+strings.Join(f.Static.Methods, ", ")+", and no match lets such a call in",
			"write methods of a match in it, where a fixed answer is right for them, or leave static out", "fallback.static.methods", "fallback.static", "fallback")
	}
	if f.Stale == nil {
		return
	}
	if !l.methods("GET", "HEAD") {
		l.warn("stale-without-reads", "only answers to GET are kept, and no match lets GET or HEAD in", "leave stale out, or write a static answer", "fallback.stale", "fallback")
	}
	if attempt := l.p.Timeout.Attempt; attempt > 0 && f.Stale.After >= attempt && l.says("fallback.stale.after") {
		l.warn("after-over-attempt", fmt.Sprintf("%s is not below timeout.attempt, %s: the attempt has failed by then, and the stale answer is given at that moment anyway", formatDuration(f.Stale.After), formatDuration(attempt)),
			"write less, or none", "fallback.stale.after")
	}
}
