//go:build linux

package agent

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// refusal is why a process was given no session, in a word for /metrics.
type refusal string

const (
	userFull     refusal = "user"     // its user has all that one may have
	agentFull    refusal = "agent"    // all users together have
	wrongHello   refusal = "hello"    // what it said first is wrong, or did not come
	unknownPeer  refusal = "peer"     // the kernel does not say who it is
	agentStopped refusal = "stopping" // the agent ends
)

var (
	errUserFull  = fmt.Errorf("this user has %d sessions already, which is the most: end some of its processes", maxSessionsPerUID)
	errAgentFull = fmt.Errorf("the agent has %d sessions already, which is the most", maxSessions)
	errStopping  = errors.New("the agent stops")
)

// refusals counts the sessions that were refused. The zero value is ready; safe
// for concurrent use.
type refusals struct {
	mu     sync.Mutex
	counts map[refusal]uint64
}

func (r *refusals) add(why refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[refusal]uint64)
	}
	r.counts[why]++
}

// count says how many there were for each reason.
func (r *refusals) count() map[refusal]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[refusal]uint64)
	for _, why := range []refusal{userFull, agentFull, wrongHello, unknownPeer, agentStopped} {
		all[why] = r.counts[why]
	}
	return all
}

// refusalOf finds the word for an error of a session's beginning.
func refusalOf(err error) refusal {
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
func (a *Agent) refuseSession(who peer, why refusal, err error) {
	a.refusals.add(why)
	if ok, _, _ := a.quiet.may(string(SessionRefused), who.uid, 1, time.Now()); ok {
		a.events.add(Event{Kind: SessionRefused, PID: who.pid, UID: &who.uid, Text: err.Error()})
	}
	a.warn("session refused", who.uid, "pid", who.pid, "reason", err)
}
