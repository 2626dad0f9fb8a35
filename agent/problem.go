//go:build linux

package agent

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/resagent/resagent/policies"
)

// Problem is how the agent says no to a request: RFC 9457, with the media type
// application/problem+json.
type Problem struct {
	// Type is [ProblemTypes] and the name of the kind, such as
	// "no-such-upstream". docs/openapi.yaml has all of them.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what to do.
	Detail string `json:"detail,omitempty"`
	// Mistakes, where the problem is what was written in policies.
	Mistakes policies.Errors `json:"mistakes,omitempty"`
}

// ProblemTypes begins the type of each problem.
const ProblemTypes = "https://github.com/resagent/resagent/blob/main/docs/openapi.yaml#"

// The kinds of problems.
const (
	noSuchPath      = "no-such-path"
	wrongMethod     = "wrong-method"
	wrongQuery      = "wrong-query"
	wrongBody       = "wrong-body"
	noSuchUpstream  = "no-such-upstream"
	refusedPolicies = "policies-refused"
	refusedOverride = "override-refused"
	circuitAsItWas  = "circuit-as-it-was"
	noUpgrade       = "upgrade-required"
	noSession       = "no-session"
	noConnection    = "no-connection"
	tooMany         = "too-many-followers"
	notDone         = "not-done"
)

// problem answers with an error.
func problem(w http.ResponseWriter, status int, kind, title, detail string) {
	Problem{Type: ProblemTypes + kind, Title: title, Status: status, Detail: detail}.answer(w)
}

// refused is problem for what policies or an override say wrong.
func refused(w http.ResponseWriter, kind, title string, err error) {
	p := Problem{Type: ProblemTypes + kind, Title: title, Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	errors.As(err, &p.Mistakes)
	p.answer(w)
}

// unknownUpstream is problem for a name that the policies do not have.
func (a *Agent) unknownUpstream(w http.ResponseWriter, name string) {
	a.mu.Lock()
	s := a.snapshot
	a.mu.Unlock()
	problem(w, http.StatusNotFound, noSuchUpstream, s.NoUpstream(name), "see the policy files, or GET /v1/policies")
}

func (p Problem) answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}
