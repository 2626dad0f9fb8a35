package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/resagent/resagent/agent"
)

// notes say why the upstream is as it is: who holds its circuits and why, on
// what evidence they opened and when the next probe is, who asked for a pause,
// whose counts cannot be. None: there is nothing to say.
func (v *upstreamView) notes(now time.Time) (all []string) {
	say := func(format string, args ...any) {
		all = append(all, oneLine(fmt.Sprintf(format, args...)))
	}
	if f := v.forced; f != nil {
		say("forced %s until %s by %s: %s", f.To, clock(f.Until, now), by(f.By), f.Reason)
	}
	for _, c := range v.circuits {
		if c.Forced == nil && c.State != "closed" {
			say("%s %s", c.Authority, circuitText(c, now))
		}
		if !c.PausedUntil.IsZero() {
			say("%s paused for %s more: pid %d was told to wait by Retry-After", c.Authority, span(c.PausedUntil.Sub(now)), c.PausedBy)
		}
		for _, pid := range slices.Sorted(maps.Keys(c.OwnTroubles)) {
			say("%s: %s of pid %d's own", c.Authority, count(int(min(c.OwnTroubles[pid], 1<<40)), "trouble", "troubles"), pid)
		}
	}
	if v.Doubted > 0 {
		say("the counts of %s cannot be, and are left out", count(v.Doubted, "process", "processes"))
	}
	return all
}

// overrideNotes say what lies over the upstream's policy.
func (v *upstreamView) overrideNotes(now time.Time) (all []string) {
	for _, o := range v.overrides {
		all = append(all, oneLine(fmt.Sprintf("override %s until %s by %s: %s", valuesText(o), clock(o.Until, now), userName(o.UID), o.Reason)))
	}
	return all
}

// circuitText is the state of a circuit that is not closed.
func circuitText(c agent.CircuitStatus, now time.Time) string {
	text := fmt.Sprintf("%s for %s", c.State, span(now.Sub(c.Since)))
	switch c.State {
	case "open":
		text += ", next probe in " + span(c.Until.Sub(now))
	case "half-open":
		text += fmt.Sprintf(", %s under way", count(c.Probes, "probe", "probes"))
	}
	return text + ": " + c.Why
}

// by is who gave an order, by name where the agent says a number.
func by(who string) string {
	var uid int
	if n, err := fmt.Sscanf(who, "uid %d", &uid); n == 1 && err == nil {
		return userName(uid)
	}
	return who
}

// clock is a time of day, with its date where that is not today's.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

// named is a process as it is shown.
func named(p agent.ProcessStatus) string {
	command := p.Command
	if command == "" {
		command = "?"
	}
	text := fmt.Sprintf("%s[%d] %s", command, p.PID, userName(p.UID))
	switch {
	case p.Doubted:
		text += " (its counts cannot be)"
	case !p.Attached:
		text += " (away)"
	}
	return oneLine(text)
}

// usedBy names the busiest processes, and says how many there are.
func (v *upstreamView) usedBy() string {
	if v.Processes == 0 {
		return "no process"
	}
	const most = 3
	var some []string
	for _, p := range v.Busiest[:min(most, len(v.Busiest))] {
		some = append(some, named(p))
	}
	text := strings.Join(some, ", ")
	if more := v.Processes - len(some); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
