//go:build linux

package agent

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/resagent/resagent/policies"
)

// EventKind is what an [Event] tells of.
type EventKind string

// The kinds there are. A newer agent may have more.
const (
	AgentStarted  EventKind = "started"
	LedgerLost    EventKind = "ledger-lost"
	Reload        EventKind = "reloaded"
	ReloadRefused EventKind = "reload-refused"
	SessionBegan  EventKind = "session-began"
	SessionEnded  EventKind = "session-ended"
	// SessionRefused is told once a minute of each user; /metrics counts all.
	SessionRefused EventKind = "session-refused"

	CircuitOpened     EventKind = "circuit-open"
	CircuitHalfOpened EventKind = "circuit-half-open"
	CircuitClosing    EventKind = "circuit-closing"
	CircuitClosed     EventKind = "circuit-closed"
	CircuitForced     EventKind = "circuit-forced"
	CircuitPaused     EventKind = "circuit-paused"
)

// Event is something that happened to the agent. Who did it, where somebody
// did, is told by the kernel.
type Event struct {
	ID       uint64            `json:"id"` // counts up from 1 at the agent's start
	Time     time.Time         `json:"time"`
	Kind     EventKind         `json:"kind"`
	Upstream string            `json:"upstream,omitempty"`
	PID      int               `json:"pid,omitempty"`
	UID      *int              `json:"uid,omitempty"`
	Text     string            `json:"text,omitempty"`    // quote it on a terminal
	Changes  []policies.Change `json:"changes,omitempty"` // of a reload, at most 100
	More     bool              `json:"more,omitempty"`    // there are more changes
	Missed   uint64            `json:"missed,omitempty"`  // events before this one that are gone

	from int // the user whose processes brought it about; 0: root's, or the agent itself
}

// inForce is what an agent starts with: the files may be others than when the
// one before it ended, and it takes over what that one was told.
func (a *Agent) inForce() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("upstreams in the policies: %d, etag %s; overrides: %d; forced circuits: %d; ledger %s",
		a.snapshot.Len(), a.snapshot.ETag(), len(a.overrides.list), len(a.forcedNow()), map[bool]string{false: "kept", true: "lost"}[a.alloc.ledger.lost])
}

const (
	keptEvents  = 512
	maxChanges  = 100
	maxFollower = 64
	maxPerUser  = 8
)

// events keeps the newest. Sessions and circuits have rings of their own, so
// that a process that comes and goes, or calls many dead authorities, does not
// push out what an operator did or looks for; nor does one user's push out
// another's.
// The zero value is ready; safe for concurrent use.
type events struct {
	mu        sync.Mutex
	last      uint64
	main      []Event
	sessions  []Event
	circuits  []Event
	more      chan struct{} // closed at the next event
	over      bool
	counts    map[EventKind]uint64
	followers map[int]int // by uid
	following int
}

// add stores one event.
func (e *events) add(one Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	one.ID, one.Time = e.last, time.Now()
	if one.UID != nil {
		one.from = *one.UID
	}
	ring := &e.main
	switch one.Kind {
	case SessionBegan, SessionEnded, SessionRefused:
		ring = &e.sessions
	case CircuitOpened, CircuitHalfOpened, CircuitClosing, CircuitClosed, CircuitPaused:
		ring = &e.circuits
	}
	if len(*ring) >= keptEvents {
		i := givesWay(*ring)
		*ring = slices.Delete(*ring, i, i+1)
	}
	*ring = append(*ring, one)
	if e.counts == nil {
		e.counts = make(map[EventKind]uint64)
	}
	e.counts[one.Kind]++
	if e.more != nil {
		close(e.more)
		e.more = nil
	}
}

// givesWay is the event to forget: the oldest of the user who has the most.
func givesWay(ring []Event) int {
	most, of := ring[0].from, make(map[int]int)
	for _, one := range ring {
		if of[one.from]++; of[one.from] > of[most] {
			most = one.from
		}
	}
	return slices.IndexFunc(ring, func(one Event) bool { return one.from == most })
}

// after gives the events with an ID above id, in order, each with how many
// before it are gone, and a channel that is closed at the next one; nil where
// there will be none.
func (e *events) after(id uint64) ([]Event, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []Event
	for _, ring := range [][]Event{e.main, e.sessions, e.circuits} {
		from, _ := slices.BinarySearchFunc(ring, id+1, func(one Event, id uint64) int {
			return int(int64(one.ID) - int64(id))
		})
		found = append(found, ring[from:]...)
	}
	slices.SortFunc(found, func(x, y Event) int { return int(int64(x.ID) - int64(y.ID)) })
	for i := range found {
		found[i].Missed = found[i].ID - id - 1
		id = found[i].ID
	}
	if e.over {
		return found, nil
	}
	if e.more == nil {
		e.more = make(chan struct{})
	}
	return found, e.more
}

// close ends those that follow.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	if e.more != nil {
		close(e.more)
		e.more = nil
	}
}

// follow counts one in that follows, if there is room.
func (e *events) follow(uid int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.following >= maxFollower || e.followers[uid] >= maxPerUser {
		return false
	}
	if e.followers == nil {
		e.followers = make(map[int]int)
	}
	e.following++
	e.followers[uid]++
	return true
}

func (e *events) unfollow(uid int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.following--
	if e.followers[uid]--; e.followers[uid] <= 0 {
		delete(e.followers, uid)
	}
}

// count says how many of each kind there were.
func (e *events) count() map[EventKind]uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make(map[EventKind]uint64, len(e.counts))
	for k, n := range e.counts {
		all[k] = n
	}
	return all
}
