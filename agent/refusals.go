//go:build linux

package agent

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// What is refused, in a word for status and /metrics.
const (
	sessions    = "session"
	connections = "connection"
)

// cause is why it is refused, in such a word.
type cause string

const (
	userFull     cause = "user"     // its user has all that one may have
	agentFull    cause = "agent"    // all users together have
	wrongHello   cause = "hello"    // what it said first is wrong, or did not come
	unknownPeer  cause = "peer"     // the kernel does not say who it is
	agentStopped cause = "stopping" // the agent ends
)

// causes are those there may be.
var causes = map[string][]cause{
	sessions:    {agentFull, wrongHello, unknownPeer, agentStopped, userFull},
	connections: {agentFull, unknownPeer, userFull},
}

// Refusal is what was refused for one reason since the agent's start: processes
// that are without the limits of the host, or commands without an answer.
type Refusal struct {
	What   string    `json:"what"`   // "session" or "connection"
	Reason string    `json:"reason"` // in a word, as in /metrics
	Count  uint64    `json:"count"`
	Last   time.Time `json:"last"`
	UID    int       `json:"uid"`  // of the last; -1 where the kernel does not say
	Text   string    `json:"text"` // why, of the last: quote it on a terminal
}

var (
	errUserFull  = fmt.Errorf("this user has %d sessions already, which is the most: end some of its processes", maxSessionsPerUID)
	errAgentFull = fmt.Errorf("the agent has %d sessions already, which is the most", maxSessions)
	errStopping  = errors.New("the agent stops")
)

// refusals counts what was refused. The zero value is ready; safe for concurrent
// use.
type refusals struct {
	mu  sync.Mutex
	all map[string]map[cause]Refusal
}

func (r *refusals) add(what string, why cause, uid int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]map[cause]Refusal{sessions: {}, connections: {}}
	}
	r.all[what][why] = Refusal{what, string(why), r.all[what][why].Count + 1, time.Now(), uid, err.Error()}
}

// list gives one for each reason that there was.
func (r *refusals) list() (all []Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, what := range []string{sessions, connections} {
		for _, why := range causes[what] {
			if one, ok := r.all[what][why]; ok {
				all = append(all, one)
			}
		}
	}
	return all
}

// causeOf finds the word for an error of a session's beginning.
func causeOf(err error) cause {
	switch {
	case errors.Is(err, errUserFull):
		return userFull
	case errors.Is(err, errAgentFull), errors.Is(err, errFull):
		return agentFull
	case errors.Is(err, errStopping):
		return agentStopped
	}
	return wrongHello
}

// refuseSession counts and tells that a process was given no session. Of one
// user's, one event a minute, as one line of the log: it may try again and again.
func (a *Agent) refuseSession(who peer, why cause, err error) {
	a.refusals.add(sessions, why, who.uid, err)
	if ok, _, _ := a.quiet.may(string(SessionRefused), who.uid, 1, time.Now()); ok {
		a.events.add(Event{Kind: SessionRefused, PID: who.pid, UID: &who.uid, Text: err.Error()})
	}
	a.warn("session refused", who.uid, "pid", who.pid, "reason", err)
}
