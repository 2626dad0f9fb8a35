package client

import "time"

// Refused is this host's own no: the upstream was not asked.
type Refused struct {
	Reason     Reason
	RetryAfter time.Duration // a guess at when it may be otherwise; zero: not known
}

// Error names the reason.
func (r *Refused) Error() string { return "resagent: refused by this host: " + string(r.Reason) }

// Reason says which limit refused.
type Reason string

const (
	QueueFull  Reason = "bulkhead: queue full"       // max_waiting reached
	WaitOver   Reason = "bulkhead: max_wait passed"  // no permit within max_wait
	RateOver   Reason = "rate limit"                 // no token within max_wait
	BudgetOver Reason = "retry budget"               // too few tokens for a retry
	AgentLost  Reason = "agent unreachable (strict)" // on_agent_loss: strict, and nothing granted
)
