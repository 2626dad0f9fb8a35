package policies

import (
	"math"
	"time"
)

// None, in a duration or an integer of a policy, says "none of it": no
// timeout, no waiting place. Zero says nothing, and so inherits. In a policy
// that [Compile] resolved there is nothing left to inherit, and zero means
// none.
const None = -1

// P95, in a hedge's delay, is the upstream's own 95th percentile as calls go.
const P95 time.Duration = -2

// MaxLimit is the largest limit, burst or capacity a policy may state.
const MaxLimit = 1<<24 - 1

// MaxBody is the largest body of a fixed answer, in bytes.
const MaxBody = 1 << 20

// MaxUpstreams is the largest number of upstreams in a set.
const MaxUpstreams = 1 << 14

// Set is a whole set of policies, keyed by upstream name. It is plain data,
// not to be changed while others read it.
type Set struct {
	// Version of the format. 1, and nothing else yet.
	Version int `json:"version"`

	// Defaults is what every named upstream inherits before the built-in
	// values. It has no Match.
	Defaults Policy `json:"defaults,omitzero"`

	// Upstreams by name: [a-z0-9._-]{1,64}.
	Upstreams map[string]Policy `json:"upstreams,omitempty"`

	// Origin says where a value was written, by its path in the set:
	// "upstreams.payments.retry.max_attempts", "defaults.retry.statuses[0]".
	// A name with a dot in it is quoted, as in upstreams["a.b"].retry. For a
	// section it is the place of its key. Nil for a set that did not come
	// from files.
	Origin map[string]Position `json:"-"`
}

// Scope says who shares a limit.
type Scope string

const (
	// ScopeHost shares a limit between all processes of the host that have a
	// session with the agent. It is what an empty scope means. Without an
	// agent it is the process's own limit.
	ScopeHost Scope = "host"
	// ScopeProcess gives every process the limit for itself.
	ScopeProcess Scope = "process"
)

// AgentLoss says what the host-wide limits of an upstream do while the agent
// cannot be reached.
type AgentLoss string

const (
	// LossHold, the built-in value: a process goes on with what it was
	// granted. A caller that finds none waits up to 2 s for the agent's
	// return; after that each process has a floor of one permit and one
	// request a second.
	LossHold AgentLoss = "hold"
	// LossStrict: what was granted, and no more.
	LossStrict AgentLoss = "strict"
	// LossLocal: the per-process limits stated as local_max_concurrent and
	// local_rate.
	LossLocal AgentLoss = "local"
	// LossOpen: no limit.
	LossOpen AgentLoss = "open"
)

// Policy is everything said of one upstream, or of all of them in
// [Set.Defaults]. A nil section inherits the whole section; a zero field
// inherits that field.
//
// Timeout is always on. Retry, RetryBudget and CircuitBreaker are on unless
// disabled. The other sections are off unless they are written, for the
// upstream or in the defaults. Disabled is not inherited by an upstream that
// writes the section: writing it turns it on, unless it says disabled too.
type Policy struct {
	// Match lists the requests that go to this upstream; any one suffices.
	// Empty: the upstream is used only where a caller names it.
	Match []Match `json:"match,omitempty"`

	Timeout        *Timeout        `json:"timeout,omitempty"`
	Retry          *Retry          `json:"retry,omitempty"`
	RetryBudget    *RetryBudget    `json:"retry_budget,omitempty"`
	Hedge          *Hedge          `json:"hedge,omitempty"`
	CircuitBreaker *CircuitBreaker `json:"circuit_breaker,omitempty"`
	Bulkhead       *Bulkhead       `json:"bulkhead,omitempty"`
	RateLimit      *RateLimit      `json:"rate_limit,omitempty"`
	Idempotency    *Idempotency    `json:"idempotency,omitempty"`
	Fallback       *Fallback       `json:"fallback,omitempty"`
	Connections    *Connections    `json:"connections,omitempty"`
	Propagation    *Propagation    `json:"propagation,omitempty"`

	// OnAgentLoss defaults to [LossHold].
	OnAgentLoss AgentLoss `json:"on_agent_loss,omitempty"`
}

// Match names requests by host, path and method. The most specific match of a
// set wins: exact host before the longer suffix before "*", with a port
// before without, then the longest path, then a named method. Two that tie
// are an error.
type Match struct {
	// Host is "name", "*.suffix" (any name below suffix, not suffix itself),
	// "*" (any host), an IPv4 address, or an IPv6 address in brackets; each
	// may have a port, as in "name:8080". Letters are compared without case.
	// Without a port any port matches.
	Host string `json:"host"`
	// Path is a prefix of whole segments: "/v1" and "/v1/" both match /v1 and
	// /v1/x, not /v1x. Empty or "/" matches every path.
	Path string `json:"path,omitempty"`
	// Methods, in capitals. Empty matches every method.
	Methods []string `json:"methods,omitempty"`
}

// Timeout bounds a call in time. Built-in: attempt 10 s, idle 60 s, total
// 30 s for a named upstream; attempt 60 s and nothing else for any other.
type Timeout struct {
	// Attempt is the time to the response headers, from when the attempt has
	// its permits. It starts anew whenever the request body moves.
	Attempt time.Duration `json:"attempt,omitempty"`
	// Idle is the longest silence of the response body, measured while a Read
	// of the caller waits.
	Idle time.Duration `json:"idle,omitempty"`
	// Total bounds waiting and the beginning of attempts. It does not cut an
	// attempt whose body moves.
	Total time.Duration `json:"total,omitempty"`
}

// Retry repeats calls that failed in passing.
type Retry struct {
	Disabled bool `json:"disabled,omitempty"`
	// MaxAttempts counts the first one too. Built-in: 3.
	MaxAttempts int `json:"max_attempts,omitempty"`
	// Backoff is exponential with full jitter: the wait before attempt n+1 is
	// drawn evenly from [0, min(Max, Base x 2^(n-1))].
	Backoff Backoff `json:"backoff,omitzero"`
	// Statuses that may be retried; nil inherits, and an empty list is none.
	// 400, 401, 403 and 404 are refused. Built-in: 408, 429, 502, 503, 504.
	Statuses []int `json:"statuses,omitempty"`
	// MaxRetryAfter is the longest Retry-After that is waited for; a response
	// that asks for more is given to the caller. Built-in: 60 s. None: each
	// that asks for a wait is given to the caller.
	MaxRetryAfter time.Duration `json:"max_retry_after,omitempty"`
	// Pause says what a Retry-After of 429 or 503 holds back, beside the call
	// that got it, until its time is over, at most MaxRetryAfter. With an
	// agent, and a circuit breaker of scope host, in all processes of the host.
	// Built-in: [PauseRetries].
	Pause Pause `json:"pause,omitempty"`
}

// Pause says which calls to an authority wait where it asked one to come later.
type Pause string

const (
	// PauseRetries holds back retries and hedges.
	PauseRetries Pause = "retries"
	// PauseAll refuses first attempts too. Where processes of several users
	// call, one user's word holds the others back for half of the time at most.
	PauseAll Pause = "all"
	// PauseOff holds back nothing but the call that was told.
	PauseOff Pause = "off"
)

// Backoff is the range of waits between attempts.
type Backoff struct {
	Base          time.Duration `json:"base,omitempty"`           // built-in: 50 ms
	ThrottledBase time.Duration `json:"throttled_base,omitempty"` // for 429, and 503 with Retry-After; built-in: 1 s
	Max           time.Duration `json:"max,omitempty"`            // built-in: 20 s
}

// RetryBudget bounds retries of one upstream: a retry reserves 14 tokens (5
// if the upstream throttled), has them back if it succeeds and loses them if
// it fails; each first-try success adds one.
// Source: the AWS SDKs' standard retry mode of 2026.
type RetryBudget struct {
	Disabled bool  `json:"disabled,omitempty"`
	Capacity int   `json:"capacity,omitempty"` // tokens; built-in: 500
	Scope    Scope `json:"scope,omitempty"`
}

// Hedge sends a second attempt of a GET or HEAD that is slow, beside the first:
// the first good answer is given, the other attempt is cancelled. A call in
// which a second attempt was sent is not retried; one that failed before that
// is retried as if there were no hedge, and retries are not hedged. A hedge is
// paid for from the retry budget: 14 tokens, which it has back only if its
// answer is the one given.
// Source: Dean and Barroso, "The Tail at Scale", CACM 2013.
type Hedge struct {
	Disabled bool `json:"disabled,omitempty"`
	// Delay after which the second attempt is sent if the first, once it has
	// its permits, has not brought response headers. Built-in: [P95], measured
	// by each process over this upstream's GET and HEAD; none is sent before
	// 20 of them are known.
	Delay time.Duration `json:"delay,omitempty"`
	// MaxExtraLoad, above 0 and at most 1, is the largest number of hedges for
	// each call of the process to this upstream. Built-in: 0.05.
	MaxExtraLoad float64 `json:"max_extra_load,omitempty"`
}

// BreakerMode is how a circuit breaker keeps calls back.
type BreakerMode string

const (
	// ModeTrip opens the circuit, and closes it after probes.
	ModeTrip BreakerMode = "trip"
	// ModeProportional refuses a part of the calls that grows with the part
	// that fails: each with the probability
	// max(0, (requests - Multiplier x accepts) / (requests + 1)),
	// where requests are those of Window, refused ones too, and accepts those
	// that did not fail. Each process judges for itself, and only Window,
	// Multiplier, Statuses and Scope count: with ScopeHost a person can open or
	// close it for the host, and a Retry-After is everybody's.
	// Source: Beyer et al., "Site Reliability Engineering", chapter 21,
	// client-side throttling.
	ModeProportional BreakerMode = "proportional"
)

// CircuitBreaker stops calls to an authority (scheme, host and port) that
// fails. Failures are Statuses, transport errors, timeouts of ours and bodies
// that break off, but for streams that stay open. None are other statuses, what
// the caller ended by its context, a request that was wrong, and an attempt that
// timed out while it waited for the caller's own body.
type CircuitBreaker struct {
	Disabled bool `json:"disabled,omitempty"`
	// Mode. Built-in: [ModeTrip].
	Mode BreakerMode `json:"mode,omitempty"`
	// Multiplier of ModeProportional, 1 to 100: how many calls may be sent for
	// each that succeeds before one is refused. Built-in: 2.
	Multiplier float64 `json:"multiplier,omitempty"`
	// Statuses of the upstream that are failures; nil inherits, and an empty
	// list is none. 400, 401, 403 and 404 are refused: one caller's wrong
	// requests would stop the calls of all. Built-in: 500, 502, 503, 504.
	// They are no part of a circuit's state: a change holds for the calls that
	// begin after it, and what was counted and decided stays. To RetryBudget and
	// Hedge a failure is no success, nor is what Retry.Statuses lists, and 408,
	// 429, 500, 502, 503 and 504 never are one, whether they are failures or not.
	Statuses []int `json:"statuses,omitempty"`
	// FailureRate of the calls in Window, above 0 and at most 1, that opens
	// the circuit once there are MinRequests of them. Built-in: 0.5 and 20.
	FailureRate float64 `json:"failure_rate,omitempty"`
	MinRequests int     `json:"min_requests,omitempty"`
	// ConsecutiveFailures in an unbroken run open it too. Built-in: 20. None:
	// only the rate does.
	ConsecutiveFailures int           `json:"consecutive_failures,omitempty"`
	Window              time.Duration `json:"window,omitempty"` // built-in: 10 s
	// SlowCallDuration: a call whose response headers take longer is slow. The
	// time counts from when the attempt has its permits, and anew whenever the
	// request body moves. SlowCallRate of the calls in Window, above 0 and at
	// most 1, opens the circuit too, once there are MinRequests of them; a
	// slow probe counts as failed. Built-in: none, and 0.5.
	SlowCallDuration time.Duration `json:"slow_call_duration,omitempty"`
	SlowCallRate     float64       `json:"slow_call_rate,omitempty"`
	// OpenFor is how long it stays open, doubled up to MaxOpenFor on repeated
	// failure. Built-in: 5 s and 60 s.
	OpenFor    time.Duration `json:"open_for,omitempty"`
	MaxOpenFor time.Duration `json:"max_open_for,omitempty"`
	// HalfOpenRequests is the number of probes at a time. Built-in: 1.
	HalfOpenRequests int `json:"half_open_requests,omitempty"`
	// Scope host: with an agent, processes learn from each other's failures.
	// Built-in: host.
	Scope Scope `json:"scope,omitempty"`
}

// Bulkhead bounds the calls in flight to one upstream.
type Bulkhead struct {
	Disabled bool `json:"disabled,omitempty"`
	// MaxConcurrent calls in flight. Must be stated.
	MaxConcurrent int `json:"max_concurrent,omitempty"`
	// MaxWaiting calls in the queue of each process, served in order of
	// arrival. Built-in: twice MaxConcurrent. None: no queue.
	MaxWaiting int `json:"max_waiting,omitempty"`
	// MaxWait in that queue. Built-in: 100 ms.
	MaxWait time.Duration `json:"max_wait,omitempty"`
	// MaxSharePerUID, above 0 and at most 1, is the largest part of the limit
	// that the processes of one user may hold. Built-in: 1.
	MaxSharePerUID float64 `json:"max_share_per_uid,omitempty"`
	Scope          Scope   `json:"scope,omitempty"`
	// LocalMaxConcurrent is each process's limit with on_agent_loss: local.
	LocalMaxConcurrent int `json:"local_max_concurrent,omitempty"`
}

// RateLimit bounds the calls begun per unit of time.
type RateLimit struct {
	Disabled bool `json:"disabled,omitempty"`
	// Rate must be stated. In any window W at most Burst + Rate x W tokens are
	// given, one for each call that begins. With ScopeHost that is exact
	// while there is an agent: what a call is late of a Burst of 1 is lost. With ScopeProcess a token counts at
	// the time it was due, and calls that are late may begin closer together.
	Rate Rate `json:"rate,omitzero"`
	// Burst is how many calls may begin at once after a quiet time. At least 2,
	// and Rate x 10 ms, use all of a host's rate. Built-in: one second of Rate,
	// rounded up.
	Burst int `json:"burst,omitempty"`
	// MaxWait for a token. Built-in: 100 ms. None: no waiting.
	MaxWait time.Duration `json:"max_wait,omitempty"`
	Scope   Scope         `json:"scope,omitempty"`
	// LocalRate is each process's rate with on_agent_loss: local.
	LocalRate Rate `json:"local_rate,omitzero"`
}

// Idempotency says that the upstream honours idempotency keys: one is minted
// for each logical request of the stated methods that has none, and those
// requests may then be retried.
type Idempotency struct {
	Disabled bool     `json:"disabled,omitempty"`
	Header   string   `json:"header,omitempty"`  // built-in: Idempotency-Key
	Bare     bool     `json:"bare,omitempty"`    // inherited if true; without the quotes of a Structured Field string
	Methods  []string `json:"methods,omitempty"` // built-in: POST, PATCH
}

// Fallback answers when the upstream cannot: from what it last said, else
// with a fixed answer.
type Fallback struct {
	Disabled bool `json:"disabled,omitempty"`
	// Statuses of the upstream that are answered like its silence; nil
	// inherits, and an empty list is none. Built-in: 500, 502, 503, 504. Errors,
	// timeouts and our own refusals always are.
	Statuses []int   `json:"statuses,omitempty"`
	Stale    *Stale  `json:"stale,omitempty"`
	Static   *Static `json:"static,omitempty"`
}

// Stale allows answers from the cache.
type Stale struct {
	// MaxStale is how long after its freshness ended an answer may be given, in
	// place of what the origin says: it extends a shorter stale-if-error, and
	// bounds a longer one and stale-while-revalidate. Must be stated. None: as
	// long as the origin says, or the request, where ServeFresh is set; else it
	// turns off what the defaults say.
	MaxStale time.Duration `json:"max_stale,omitempty"`
	// After is when a call that has a stale answer stops waiting for the
	// upstream. Built-in: 1 s. None: it waits for the upstream's failure.
	After time.Duration `json:"after,omitempty"`
	// ServeFresh answers from the cache, without a call, as long as what is
	// stored is fresh by its own word, or within its stale-while-revalidate:
	// then the upstream is asked in the background, within timeout.total, or a
	// minute where that is none. Of simultaneous GETs for the same that find
	// nothing so, one is sent; the others wait for it, for After at most (1 s
	// where that is none), and send their own if it brings nothing for them.
	// Inherited if true.
	ServeFresh bool `json:"serve_fresh,omitempty"`
}

// Static is a fixed answer. In a file body_file may stand for Body: see
// [Node.BodyFiles].
type Static struct {
	// Methods whose calls are answered so. Built-in: GET, HEAD, OPTIONS, TRACE,
	// the safe ones. To any other it says that something was done which was
	// not, or perhaps twice: name such a method only where callers know that.
	Methods     []string          `json:"methods,omitempty"`
	Status      int               `json:"status,omitempty"` // built-in: 200
	ContentType string            `json:"content_type,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"` // inherited as a whole
	Body        string            `json:"body,omitempty"`    // at most MaxBody
}

// Connections gives an upstream a connection pool of its own, where the base
// is an *http.Transport. Over HTTP/1.1 a call that finds all connections in use
// waits for one, and its attempt timeout runs: a bulkhead of as many calls has
// it wait before that.
type Connections struct {
	Disabled   bool `json:"disabled,omitempty"`
	MaxPerHost int  `json:"max_per_host,omitempty"` // open connections; must be stated
}

// Propagation tells the upstream, in headers of its choice, what it is part of.
// Each is off unless it is named.
type Propagation struct {
	Disabled bool `json:"disabled,omitempty"`
	// AttemptHeader carries the number of the attempt, from 1. A request that
	// comes with a number above 1 is not retried here: another layer does.
	AttemptHeader string `json:"attempt_header,omitempty"`
	// DeadlineHeader carries the time that is left, the shorter of the call's
	// and the attempt's; nothing where there is no limit, or the caller wrote
	// the header.
	DeadlineHeader string `json:"deadline_header,omitempty"`
	// DeadlineUnit of that number: ms, a whole number rounded down, or s, with
	// three decimals. Built-in: ms.
	DeadlineUnit DeadlineUnit `json:"deadline_unit,omitempty"`
}

// DeadlineUnit is the unit of a deadline header.
type DeadlineUnit string

const (
	UnitMilliseconds DeadlineUnit = "ms" // as in 1250
	UnitSeconds      DeadlineUnit = "s"  // as in 1.250
)

// Rate is a number of events per second, above zero. Written as "200/s" or
// "90/m".
type Rate float64

// Every returns the time from one event to the next at this rate, which must
// be above zero.
func (r Rate) Every() time.Duration {
	return time.Duration(math.Round(float64(time.Second) / float64(r)))
}
