//go:build linux

package agent

import (
	"errors"

	"github.com/resagent/resagent/policies"
)

// Reloaded is the outcome of a reload.
type Reloaded struct {
	Generation uint64 `json:"generation"`
	ETag       string `json:"etag"`
	Changed    bool   `json:"changed"`
	Upstreams  int    `json:"upstreams"`
	// Changes are what is new, at most 100; More tells that there are others.
	Changes []policies.Change `json:"changes,omitempty"`
	More    bool              `json:"more,omitempty"`
	Consequences
}

// bySelf is who asks for a reload by [Agent.Reload].
const bySelf = "the agent itself, as by SIGHUP"

// Reload reads the policies again and puts them in force in every process.
// If they have an error nothing changes, and the error says all of them.
func (a *Agent) Reload() (Reloaded, error) {
	return a.reloadFor(Event{Text: "asked for by " + bySelf})
}

// reloadFor is Reload, with the one who asked for it in the event.
func (a *Agent) reloadFor(by Event) (Reloaded, error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	s, err := a.Load()
	if err != nil {
		a.log().Error("reload refused; the earlier policies go on", append(by.who(), "reason", err)...)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.refused = err.Error()
		by.Kind, by.Text = ReloadRefused, err.Error()
		a.events.add(by)
		return Reloaded{}, err
	}
	l := lay(s, a.overrides.list)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = ""
	if a.alloc == nil || a.down {
		return Reloaded{}, errors.New("agent: reload: the agent does not run")
	}
	if len(l.dropped) > 0 {
		a.saveOverrides(l.list) // it is tried again
	}
	a.overrides.base, a.overrides.list = s, l.list
	a.armOverrides()
	s = l.snapshot
	changed := s.ETag() != a.snapshot.ETag()
	by.Kind = Reload
	done := Consequences{DroppedOverrides: l.dropped}
	if changed {
		by.Changes, by.More = s.Diff(a.snapshot, maxChanges)
		if done.EndedOrders, err = a.publishOver(s); err != nil {
			return Reloaded{}, err
		}
	}
	a.events.add(by)
	a.tellDropped(l.dropped)
	a.logOrder(by, "changed", changed, "changes", changesText(by.Changes, by.More), "generation", a.generation, "upstreams", s.Len())
	return Reloaded{Generation: a.generation, ETag: s.ETag(), Changed: changed, Upstreams: s.Len(), Changes: by.Changes, More: by.More, Consequences: done}, nil
}
