//go:build linux

package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/resagent/resagent/policies"
)

const (
	// maxOverrides there may be at a time, and how long one may last.
	maxOverrides   = 256
	maxOverrideFor = 7 * 24 * time.Hour
	maxReason      = 200
)

// The kinds of events of overrides.
const (
	OverrideSet     EventKind = "override-set"
	OverrideCleared EventKind = "override-cleared"
	OverrideExpired EventKind = "override-expired"
	OverrideDropped EventKind = "override-dropped" // the files no longer have what it was for
)

// Override is values laid over the files for a time.
type Override struct {
	ID       int               `json:"id"`
	Upstream string            `json:"upstream"`
	Values   map[string]string `json:"values"` // by path, as written in a file
	Reason   string            `json:"reason"`
	UID      int               `json:"uid"` // who, by the kernel's word
	PID      int               `json:"pid"`
	Since    time.Time         `json:"since"`
	Until    time.Time         `json:"until"`
}

// words are the values, as an operator types them.
func (o Override) words() string {
	var all []string
	for _, path := range slices.Sorted(maps.Keys(o.Values)) {
		all = append(all, path+"="+o.Values[path])
	}
	return strings.Join(all, " ")
}

// told is what an event says of the end of some.
func told(list []Override) string {
	var all []string
	for _, o := range list {
		all = append(all, fmt.Sprintf("override %d of uid %d, %s %s until %s: %s", o.ID, o.UID, o.Upstream, o.words(), o.Until.Format(time.RFC3339), o.Reason))
	}
	return strings.Join(all, "\n")
}

// from is what explain gives as the place of the values.
func (o Override) from() string {
	return fmt.Sprintf("override %d of uid %d until %s: %s", o.ID, o.UID, o.Until.Format("2006-01-02 15:04:05"), o.Reason)
}

// overrides are laid over the files in order. What changes them has the
// agent's reloading lock; list is read with a.mu too, and replaced, never
// changed.
type overrides struct {
	base  *policies.Snapshot // of the files alone
	list  []Override
	last  int
	timer *time.Timer
	// stale: the file is to be written again: it could not be, or has some of
	// an earlier agent that are over. unkept: the log says that it could not.
	stale, unkept bool
}

// split parts those that go on from those whose time is over.
func split(list []Override, now time.Time) (on, over []Override) {
	for _, o := range list {
		if now.Before(o.Until) {
			on = append(on, o)
		} else {
			over = append(over, o)
		}
	}
	return on, over
}

// layers are overrides over the files.
type layers struct {
	snapshot *policies.Snapshot
	list     []Override
	dropped  []Dropped // those that do not fit
}

// lay lays each that fits over the files; one that does not is dropped: what the
// files say goes first.
func lay(base *policies.Snapshot, list []Override) layers {
	l := layers{snapshot: base}
	for _, o := range list {
		next, err := with(l.snapshot, o)
		if err != nil {
			l.dropped = append(l.dropped, Dropped{o, err.Error()})
			continue
		}
		l.snapshot, l.list = next, append(l.list, o)
	}
	return l
}

// tellDropped says which ones are out of force now.
func (a *Agent) tellDropped(dropped []Dropped) {
	for _, o := range dropped {
		a.events.add(Event{Kind: OverrideDropped, Upstream: o.Upstream, Text: fmt.Sprintf("override %d does not fit the files: %s", o.ID, o.Why)})
		a.log().Warn("an override does not fit the files, and is dropped", "override", o.ID, "upstream", o.Upstream, "reason", o.Why)
	}
}

func with(s *policies.Snapshot, o Override) (*policies.Snapshot, error) {
	set, err := s.Set().With(o.Upstream, o.Values, o.from())
	if err != nil {
		return nil, err
	}
	return policies.Compile(set)
}

// Laid is the answer to an override.
type Laid struct {
	Override
	Consequences
}

// override adds one. An error that is policies.Errors: it is refused, whole.
func (a *Agent) override(o Override, lasts time.Duration) (done Laid, err error) {
	o.Reason = strings.TrimSpace(o.Reason)
	switch {
	case lasts <= 0 || lasts > maxOverrideFor:
		return done, policies.Errors{{Problem: "it would last " + lasts.String(), Want: "give a time up to " + maxOverrideFor.String() + ", such as 30m"}}
	case o.Reason == "" || len(o.Reason) > maxReason:
		return done, policies.Errors{{Problem: "the reason is missing or longer than 200 bytes", Want: "say why, for whoever finds it"}}
	case !oneLine(o.Reason):
		return done, policies.Errors{{Problem: "the reason has control characters, such as a line break", Want: "write it as one line of text"}}
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if len(a.overrides.list) >= maxOverrides {
		return done, policies.Errors{{Problem: "there are 256 overrides already", Want: "clear some: they are for exceptions"}}
	}
	o.ID, o.Since = a.overrides.last+1, time.Now()
	o.Until = o.Since.Add(lasts)
	l := lay(a.overrides.base, a.overrides.list)
	if l.snapshot, err = with(l.snapshot, o); err != nil {
		return done, err
	}
	l.list = append(l.list, o)
	warnings := hardlyMeant(l.snapshot, a.snapshot)
	if !a.runs() {
		return done, errNotRunning
	}
	if err := a.saveOverrides(l.list); err != nil {
		a.armOverrides()
		return done, fmt.Errorf("agent: writing the override down: %w: make room there, and try again", err)
	}
	by := Event{Kind: OverrideSet, Upstream: o.Upstream, UID: &o.UID, PID: o.PID, Text: fmt.Sprintf("until %s: %s", o.Until.Format(time.RFC3339), o.Reason)}
	done.Override = o
	if done.Consequences, err = a.putOverrides(l, by, "override", o.ID, "values", o.words(), "until", o.Until.Format(time.RFC3339), "reason", o.Reason); err != nil {
		return done, err
	}
	a.overrides.last = o.ID
	done.Warnings = warnings
	return done, nil
}

// hardlyMeant says what may be wrong with a change: what check would warn of that
// it would not have before, else that there is none.
func hardlyMeant(s, before *policies.Snapshot) (warnings []string) {
	known := map[string]bool{}
	for _, w := range before.Warnings() {
		known[warningText(w)] = true
	}
	for _, w := range s.Warnings() {
		if text := warningText(w); !known[text] {
			warnings = append(warnings, text)
		}
	}
	if changes, _ := s.Diff(before, 1); len(changes) == 0 && warnings == nil {
		return []string{"it changes nothing now: what it sets is so already, or its section is disabled; it is kept, and holds if the files change before its end; see resagent explain"}
	}
	return warnings
}

// warningText leaves out the place: of an override it is the override.
func warningText(w policies.Warning) string {
	return w.Path + ": " + w.Problem + ": " + w.Want + " [" + w.Rule + "]"
}

// Cleared is the outcome of clearing.
type Cleared struct {
	Cleared []Override `json:"cleared"`
	Consequences
}

// clear ends those of an upstream, or all where it is empty. It is done also
// where it cannot be written down: who clears is in need of it.
func (a *Agent) clear(upstream string, by Event) (done Cleared, err error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	done.Cleared = []Override{}
	var until time.Time
	var list []Override
	for _, o := range a.overrides.list {
		if upstream == "" || o.Upstream == upstream {
			done.Cleared = append(done.Cleared, o)
			if o.Until.After(until) {
				until = o.Until
			}
		} else {
			list = append(list, o)
		}
	}
	if len(done.Cleared) == 0 {
		return done, nil
	}
	l := lay(a.overrides.base, list)
	by.Kind, by.Upstream, by.Text = OverrideCleared, upstream, told(done.Cleared)
	if done.Consequences, err = a.putOverrides(l, by, "ended", by.Text); err != nil {
		return done, err
	}
	if err := a.saveOverrides(l.list); err != nil {
		a.armOverrides()
		done.Warnings = append(done.Warnings, fmt.Sprintf("cleared, but a restart of the agent before %s would bring it back: %v", until.Format(time.RFC3339), err))
	}
	return done, nil
}

// expireOverrides ends those whose time is over, and writes down what could not
// be before.
func (a *Agent) expireOverrides() {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if !a.runs() {
		return
	}
	list, over := split(a.overrides.list, time.Now())
	if len(over) > 0 {
		by := Event{Kind: OverrideExpired, Upstream: over[0].Upstream, Text: told(over)}
		if _, err := a.putOverrides(lay(a.overrides.base, list), by, "ended", by.Text); err != nil {
			a.log().Error("an override's end could not be put in force; it is tried again", "reason", err)
			a.overrides.timer = time.AfterFunc(keepAgain, a.expireOverrides)
			return
		}
	}
	if len(over) > 0 || a.overrides.stale {
		a.saveOverrides(a.overrides.list) // where it fails: a later agent looks at Until too
	}
	a.armOverrides()
}

var errNotRunning = errors.New("agent: overrides: the agent does not run")

// putOverrides puts them in force, and logs it with args. With the reloading
// lock.
func (a *Agent) putOverrides(l layers, by Event, args ...any) (done Consequences, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.alloc == nil || a.down {
		return done, errNotRunning
	}
	by.Changes, by.More = l.snapshot.Diff(a.snapshot, maxChanges)
	if len(by.Changes) > 0 { // what only says in other words what holds already is sent to nobody
		if done.EndedOrders, err = a.publishOver(l.snapshot); err != nil {
			return done, err
		}
	}
	a.snapshot = l.snapshot // also where only the places of values, or the words, are others
	a.overrides.list = l.list
	a.events.add(by)
	a.logOrder(by, append(args, "overrides", len(l.list), "generation", a.generation)...)
	a.tellDropped(l.dropped)
	done.DroppedOverrides = l.dropped
	a.armOverrides()
	return done, nil
}

// runs: policies can be put in force.
func (a *Agent) runs() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.alloc != nil && !a.down
}

// armOverrides sets the clock for the next end, or for writing them down.
// With the reloading lock.
func (a *Agent) armOverrides() {
	if a.overrides.timer != nil {
		a.overrides.timer.Stop()
	}
	var next time.Time
	if a.overrides.stale {
		next = time.Now().Add(keepAgain)
	}
	for _, o := range a.overrides.list {
		if next.IsZero() || o.Until.Before(next) {
			next = o.Until
		}
	}
	if !next.IsZero() {
		a.overrides.timer = time.AfterFunc(max(0, time.Until(next)), a.expireOverrides)
	}
}

// Overrides gives those in force.
func (a *Agent) Overrides() []Override {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.overrides.list)
}
