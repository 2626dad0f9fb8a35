//go:build linux

package agent

import (
	"strings"

	"github.com/resagent/resagent/policies"
)

// mostLogged bounds the bytes of a text in the log that others wrote.
const mostLogged = 1000

// who is the one who did it, for the log.
func (e Event) who() []any {
	switch {
	case e.UID != nil:
		return []any{"uid", *e.UID, "pid", e.PID}
	case e.Text == bySignal:
		return []any{"by", bySignal}
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
