package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
)

// statusScreen is what status prints: the agent, a line for each upstream that
// is used, and below it why each is as it is; or all that is known of one.
// width and height are those of the terminal; 0: there is no such bound.
func statusScreen(socket string, s agent.Status, only string, now time.Time, width, height int) []line {
	lines := headLines(socket, s, now, width)
	all := upstreamViews(s)
	if only != "" {
		for _, v := range all {
			if v.Name == only {
				return append(append(lines, line{}), detail(v, now, width)...)
			}
		}
		return append(lines, line{}, line{piece{only + ": no process uses it, and nothing lies over its policy", plain}})
	}
	if len(all) == 0 {
		return lines
	}
	columns := upstreamColumns(now)
	shown := all
	if room := height - len(lines) - 4; height > 0 && len(all) > max(5, room) {
		shown = all[:max(5, room)]
	}
	head, body := tabulate(columns, shown, width, -1, false)
	lines = append(append(append(lines, line{}), head), body...)
	if more := len(all) - len(shown); more > 0 {
		return append(lines, line{piece{fmt.Sprintf("and %d more: resagent top, or resagent status UPSTREAM", more), faint}})
	}
	named := strings.Contains(head.text(false), usedByHead)
	below := notesOf(all, now, width, !named)
	if height > 0 && len(lines)+1+len(below)+1 > height {
		below = notesOf(all, now, width, false) // what has no trouble needs no more than its line
	}
	if len(below) > 0 {
		lines = append(append(lines, line{}), below...)
	}
	return lines
}

// notesOf is why each upstream is as it is, and who uses it.
func notesOf(all []*upstreamView, now time.Time, width int, users bool) (lines []line) {
	indent := 0
	for _, v := range all {
		indent = max(indent, columnsOf(oneLine(v.Name))+2)
	}
	for _, v := range all {
		notes := v.notes(now)
		if users {
			notes = append(notes, "used by "+v.usedBy())
		}
		lines = append(lines, labelled(oneLine(v.Name), notes, indent, width)...)
	}
	return lines
}

const headIndent = 10

// lately is how long the screen shows that something was refused.
const lately = 10 * time.Minute

// headLines are about the agent.
func headLines(socket string, s agent.Status, now time.Time, width int) []line {
	users := map[int]bool{}
	for _, one := range s.Sessions {
		users[one.UID] = true
	}
	var lines []line
	say := func(label string, st style, format string, args ...any) {
		for i, row := range fold(oneLine(fmt.Sprintf(format, args...)), max(0, width-headIndent)) {
			if i > 0 {
				label = ""
			}
			lines = append(lines, line{piece{pad(label, headIndent, false), plain}, piece{row, st}})
		}
	}
	say("agent", plain, "%s, pid %d, up %v", socket, s.PID, now.Sub(s.Started).Round(time.Second))
	say("policies", plain, "generation %d, %s", s.Generation, count(s.Named, "upstream", "upstreams"))
	sessions := count(len(s.Sessions), "process", "processes") + " of " + count(len(users), "user", "users")
	for _, u := range s.Upstreams {
		if u.Recent != nil {
			sessions += "; what they did in the last " + span(time.Duration(u.Recent.Seconds*float64(time.Second)))
			break
		}
	}
	say("sessions", plain, "%s", sessions)
	ledger := plain
	if s.Ledger != "kept" {
		ledger = warn
	}
	say("ledger", ledger, "%s", s.Ledger)
	if s.Refused != "" {
		first, _, _ := strings.Cut(s.Refused, "\n")
		say("refused", bad, "the last reload: %s", first)
	}
	for _, r := range s.Refusals {
		if ago := now.Sub(r.Last); ago < lately {
			say("refused", warn, "%s since the agent's start, the last %s ago, of %s: %s",
				count(int(r.Count), r.What, r.What+"s"), span(ago), userName(r.UID), fit(r.Text, 200))
		}
	}
	for _, o := range s.Overrides {
		say("override", warn, "%s", overrideText(o))
	}
	return lines
}

// labelled puts notes beside a label, each folded to the width.
func labelled(label string, notes []string, indent, width int) (lines []line) {
	if width > 0 {
		indent = min(indent, max(2, width/3))
	}
	for _, note := range notes {
		for i, row := range fold(note, max(0, width-indent)) {
			if i == 0 {
				lines = append(lines, line{piece{pad(fit(label, max(1, indent-2)), indent, false), bold}, piece{row, plain}})
			} else {
				lines = append(lines, line{piece{pad("", indent, false), plain}, piece{row, plain}})
			}
			label = ""
		}
	}
	return lines
}

// detail is all that is known of one upstream.
func detail(v *upstreamView, now time.Time, width int) []line {
	head, body := tabulate(upstreamColumns(now), []*upstreamView{v}, width, -1, false)
	lines := append([]line{head}, body...)
	lines = append(lines, line{})
	calls := []string{callsText("since the agent knows its processes", v.Calls)}
	if v.Recent != nil {
		calls = append(calls, callsText("in the last "+span(time.Duration(v.Recent.Seconds*float64(time.Second))), v.Recent.CallStatus))
	}
	if none := v.Processes - v.Counting; none > 0 {
		calls = append(calls, fmt.Sprintf("%d of %s have counted none: idle, of an older transport, or of resagent exec", none, count(v.Processes, "process", "processes")))
	}
	say := func(label string, notes ...string) {
		lines = append(lines, labelled(label, notes, headIndent, width)...)
	}
	say("why", v.notes(now)...)
	say("calls", calls...)
	if v.OnAgentLoss != "" {
		say("agent", "on_agent_loss: "+oneLine(v.OnAgentLoss))
	}
	var limits []agent.LimitStatus
	for _, l := range []*agent.LimitStatus{v.bulkhead, v.rate, v.budget} {
		if l != nil {
			limits = append(limits, *l)
		}
	}
	table := func(head line, body []line) {
		if len(body) > 0 {
			lines = append(append(append(lines, line{}), head), body...)
		}
	}
	table(tabulate(limitColumns, limits, width, -1, false))
	table(tabulate(circuitColumns(now), v.circuits, width, -1, false))
	table(tabulate(processColumns, processViews([]*upstreamView{v}), width, -1, false))
	if more := v.Processes - len(v.Busiest); more > 0 {
		lines = append(lines, line{piece{fmt.Sprintf("and %d more", more), faint}})
	}
	return lines
}

func callsText(when string, c agent.CallStatus) string {
	if c.Total() == 0 {
		return when + ": none that were counted"
	}
	text := fmt.Sprintf("%s: %d, of which %d were sent", when, c.Total(), c.Sent)
	if c.Amplification != nil {
		text += fmt.Sprintf(", in %d attempts (%.3f for each)", c.Attempts, *c.Amplification)
	}
	if c.FallbackShare != nil {
		text += fmt.Sprintf("; %d answered by the fallback (%s)", c.Fallback, percent(*c.FallbackShare))
	}
	return text
}

// limitColumns are of the limits of one upstream.
var limitColumns = []column[agent.LimitStatus]{
	{head: "LIMIT", cell: func(l agent.LimitStatus) piece { return piece{oneLine(string(l.Kind)), plain} }},
	{head: "OF", right: true, cell: func(l agent.LimitStatus) piece { return piece{strconv.Itoa(l.Limit), plain} }},
	{head: "PER SECOND", right: true, rank: 1, cell: func(l agent.LimitStatus) piece {
		if l.Kind != wire.RateLimit {
			return piece{unknown, faint}
		}
		return piece{rough(l.PerSecond), plain}
	}},
	{head: "IN USE", right: true, cell: func(l agent.LimitStatus) piece { return piece{strconv.Itoa(l.InUse + l.Extra), plain} }},
	{head: "IDLE", right: true, cell: func(l agent.LimitStatus) piece { return piece{strconv.Itoa(l.Available), plain} }},
	{head: "WAITING", right: true, cell: func(l agent.LimitStatus) piece { return piece{strconv.Itoa(l.Waiting), plain} }},
	{head: "LEFT", right: true, cell: func(l agent.LimitStatus) piece {
		if l.Kind == wire.Bulkhead {
			return piece{strconv.Itoa(max(0, l.Limit-l.Granted-l.Extra)), plain}
		}
		return piece{strconv.Itoa(l.Level), plain}
	}},
	{head: "PROCESSES", right: true, cell: func(l agent.LimitStatus) piece { return piece{strconv.Itoa(l.Processes), plain} }},
}

func circuitColumns(now time.Time) []column[agent.CircuitStatus] {
	return []column[agent.CircuitStatus]{
		{head: "CIRCUIT", least: 20, cell: func(c agent.CircuitStatus) piece { return piece{oneLine(c.Authority), plain} }},
		{head: "STATE", cell: func(c agent.CircuitStatus) piece { return piece{oneLine(c.State), plain} }},
		{head: "FOR", right: true, cell: func(c agent.CircuitStatus) piece {
			if c.Since.Unix() <= 0 {
				return piece{unknown, faint}
			}
			return piece{span(now.Sub(c.Since)), plain}
		}},
		{head: "PROBES", right: true, rank: 1, cell: func(c agent.CircuitStatus) piece { return piece{strconv.Itoa(c.Probes), plain} }},
		{head: "CALLERS", right: true, cell: func(c agent.CircuitStatus) piece { return piece{strconv.Itoa(c.Callers), plain} }},
	}
}
