package wire

import (
	"os"

	"github.com/resagent/resagent/policies"
)

const (
	// DefaultSocket is where the agent listens.
	DefaultSocket = "/run/resagent/agent.sock"
	// SocketEnv names the environment variable that says otherwise.
	SocketEnv = "RESAGENT_SOCKET"
	// Upgrade is the protocol named in the Upgrade field.
	Upgrade = "resagent/1"
	// Version of the messages that this side speaks. A session uses the lower
	// of both sides' versions.
	Version = 1
	// LedgerHeader of the 101 is the identity of the agent's ledger. A page
	// goes back only to the ledger that filled it.
	LedgerHeader = "Resagent-Ledger"
	// LostHeader of the 101 is "1" where the ledger of an earlier agent was
	// lost: pages that it filled are wanted back.
	LostHeader = "Resagent-Lost"
	// MaxLine is the longest line, in bytes, that the agent accepts.
	MaxLine = 64 << 10
	// MaxAgentLine is the longest line a process accepts: a whole policy set.
	MaxAgentLine = 64 << 20
)

// Socket is the agent's socket for this process: [SocketEnv], else
// [DefaultSocket].
func Socket() string {
	if s := os.Getenv(SocketEnv); s != "" {
		return s
	}
	return DefaultSocket
}

// Kind is what a limit counts.
type Kind string

// The kinds, named as in the policy files.
const (
	Bulkhead    Kind = "bulkhead"     // permits
	RateLimit   Kind = "rate_limit"   // tokens
	RetryBudget Kind = "retry_budget" // tokens
	// CircuitBreaker is no limit: its cell counts the outcomes of calls.
	CircuitBreaker Kind = "circuit_breaker"
)

// Type says what a message is.
type Type string

const (
	// From the process.

	Hello Type = "hello" // Version, Library, Cells: those of a page that comes back
	Open  Type = "open"  // Cell (Upstream, Kind): a cell is wanted
	Want  Type = "want"  // Indexes: callers wait, look at these cells
	Free  Type = "free"  // Indexes: something above the target came free, or the last token of a small burst was spent
	Bye   Type = "bye"   // the process lets go of everything

	Dirty  Type = "dirty"  // Indexes: outcome cells with a first failure
	Probe  Type = "probe"  // Indexes: a probe of this circuit, by its outcome cell, is asked for
	Probed Type = "probed" // Indexes, Generation (of the probe), Reason: "success", "failure", or "" for neither

	Pause Type = "pause" // Indexes, PauseMS: the upstream asked, by Retry-After, to come later

	// From the agent.

	Welcome  Type = "welcome"  // Version, Cells (those accepted), RecoverMS
	Policies Type = "policies" // Generation, Set
	Assign   Type = "assign"   // Cell: answers open, or (Index -1, Reason) says that there is none or none any more
	Wake     Type = "wake"     // Indexes: look at these cells
	Refuse   Type = "refuse"   // Reason: the session ends

	// Probe answers a probe: Indexes, and Generation: the number of the probe,
	// 0 where there is none to have now.
)

// Message is one line. Which fields a type uses stands beside it.
type Message struct {
	Type       Type          `json:"type"`
	Version    int           `json:"version,omitempty"`
	Library    string        `json:"library,omitempty"`
	Cell       *Cell         `json:"cell,omitempty"`
	Cells      []Cell        `json:"cells,omitempty"`
	Indexes    []int         `json:"indexes,omitempty"`
	Generation uint64        `json:"generation,omitempty"`
	Set        *policies.Set `json:"set,omitempty"`
	RecoverMS  int           `json:"recover_ms,omitempty"` // no grants for so long: an earlier ledger was lost
	PauseMS    int64         `json:"pause_ms,omitempty"`   // from now
	Reason     string        `json:"reason,omitempty"`
}

// Cell says which limit a cell of the page counts.
type Cell struct {
	Upstream string `json:"upstream,omitempty"`
	Kind     Kind   `json:"kind,omitempty"`
	Index    int    `json:"index"`
	Epoch    uint16 `json:"epoch,omitempty"`
	// Of a circuit: which host it is, and where its word stands in the control page.
	Authority string `json:"authority,omitempty"`
	Entry     int    `json:"entry,omitempty"`
	Reason    string `json:"reason,omitempty"` // Assign with Index -1: why
}
