//go:build linux

package agent

import (
	"maps"
	"strings"
	"unicode"

	"github.com/resagent/resagent/policies"
)

// mostLogged bounds the bytes of a text in the log that others wrote.
const mostLogged = 1000

// oneLine tells whether a reason can stand in a row of a table.
func oneLine(reason string) bool { return !strings.ContainsFunc(reason, unicode.IsControl) }

// who is the one who did it, for the log.
func (e Event) who() []any {
	switch {
	case e.UID != nil:
		return []any{"uid", *e.UID, "pid", e.PID}
	case e.Text == "asked for by "+bySelf:
		return []any{"by", bySelf}
	}
	return nil
}

// logOrder logs what a person ordered, or how it ended, in one line with who it
// was: events are gone with the agent.
func (a *Agent) logOrder(e Event, args ...any) {
	if e.Upstream != "" {
		args = append([]any{"upstream", e.Upstream}, args...)
	}
	args = append(args, e.who()...)
	for i, v := range args {
		if text, ok := v.(string); ok && len(text) > mostLogged {
			args[i] = strings.ToValidUTF8(text[:mostLogged], "") + "..."
		}
	}
	a.log().Info(string(e.Kind), args...)
}

// Consequences are what a change did besides what was asked for.
type Consequences struct {
	// Warnings are lines on what is done and may not be what was meant.
	Warnings []string `json:"warnings,omitempty"`
	// DroppedOverrides do not fit the policies any more.
	DroppedOverrides []Dropped `json:"dropped_overrides,omitempty"`
	// EndedOrders are those of circuits that the policies no longer have for
	// the host, by upstream.
	EndedOrders map[string]*Forced `json:"ended_orders,omitempty"`
}

// Dropped is an override that does not fit.
type Dropped struct {
	Override
	Why string `json:"why"`
}

// publishOver is publish, and gives the orders that it ended. With the lock.
func (a *Agent) publishOver(s *policies.Snapshot) (ended map[string]*Forced, err error) {
	ended = a.forcedNow()
	if err := a.publish(s); err != nil {
		return nil, err
	}
	maps.DeleteFunc(ended, func(upstream string, f *Forced) bool { return a.circuits.forced[upstream] == f })
	return ended, nil
}

// changesText is what a change of the policies did, for the log.
func changesText(changes []policies.Change, more bool) string {
	var all []string
	for _, c := range changes {
		all = append(all, c.String())
	}
	if more {
		all = append(all, "and more")
	}
	return strings.Join(all, "; ")
}
