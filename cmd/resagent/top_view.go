package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// screen is what top shows: how the agent is, the table, and below it what is
// to be said of the selected upstream. width and height are the terminal's; 0:
// there is no such bound.
func (m topModel) screen(width, height int, now time.Time) []line {
	if m.help {
		return clip(helpScreen(), width, height)
	}
	lines := m.topLines(now)
	foot := m.footLine()
	live := height > 0 // somebody can press keys
	room := 0          // of the table and what is below it
	if live {
		room = max(0, height-len(lines)-2)
	}
	if m.processes {
		lines = append(lines, m.processLines(width, room)...)
	} else {
		lines = append(lines, m.upstreamLines(width, room, now)...)
	}
	if live {
		lines = clip(lines, width, height-1)
		for len(lines) < height-1 {
			lines = append(lines, line{})
		}
		lines = append(lines, foot)
	}
	return clip(lines, width, height)
}

// clip bounds rows to the terminal.
func clip(lines []line, width, height int) []line {
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	clipped := make([]line, len(lines))
	for i, l := range lines {
		clipped[i] = l.fit(width)
	}
	return clipped
}

// tardy is how late an answer may be before that is said.
const tardy = 2 * time.Second

// topLines are about the agent.
func (m topModel) topLines(now time.Time) []line {
	s := m.status
	waiting, trouble := 0, 0
	for _, v := range upstreamViews(s) {
		waiting += v.waiting()
		if v.trouble > isWell {
			trouble++
		}
	}
	first := line{
		{"resagent " + m.at.Local().Format("15:04:05"), bold},
		{fmt.Sprintf("  pid %d, up %s, generation %d", s.PID, span(m.at.Sub(s.Started)), s.Generation), plain},
	}
	switch {
	case m.trouble != "":
		first = append(first, piece{"  NO ANSWER for " + span(now.Sub(m.since)), bad})
	case !m.paused && now.Sub(m.at) > m.interval+tardy:
		first = append(first, piece{"  no answer for " + span(now.Sub(m.at)), warn})
	case m.paused:
		first = append(first, piece{"  PAUSED", warn})
	}
	second := line{
		{fmt.Sprintf("%s of %d in use, ", count(len(s.Upstreams), "upstream", "upstreams"), s.Named), plain},
		{fmt.Sprintf("%d in trouble", trouble), worse(float64(trouble), 1, 1e9)},
		{", ", plain},
		{fmt.Sprintf("%d waiting", waiting), worse(float64(waiting), 1, 1e9)},
		{fmt.Sprintf("; %s; by %s", count(len(s.Sessions), "process", "processes"), m.sortedName()), plain},
	}
	if s.Ledger != "kept" {
		second = append(second, piece{"; ledger " + oneLine(s.Ledger), warn})
	}
	if s.Refused != "" {
		second = append(second, piece{"; last reload REFUSED", bad})
	}
	if m.filter != "" {
		second = append(second, piece{"; only /" + printable(m.filter), warn})
	}
	lines := []line{first, second}
	if m.trouble != "" {
		lines = append(lines, line{{m.trouble, bad}})
	}
	return append(lines, line{})
}

const (
	isSelected  = "> "
	notSelected = "  "
)

// upstreamLines are the table of upstreams, and what is said of the selected
// one. room bounds their number; 0: nothing does.
func (m topModel) upstreamLines(width, room int, now time.Time) []line {
	rows := m.upstreamRows()
	if width > 0 && room > 0 {
		width -= columnsOf(isSelected)
	}
	head, body := tabulate(upstreamColumns(now), rows, width, m.sortedBy, m.backwards)
	if len(rows) == 0 {
		return []line{head, {{"no upstream is in use" + m.filtered(), faint}}}
	}
	if room == 0 {
		return append([]line{head}, body...)
	}
	at := max(0, slices.IndexFunc(rows, func(v *upstreamView) bool { return v.Name == m.selected }))
	v := rows[at]
	below := labelled(oneLine(v.Name), slices.Concat(v.notes(now), v.overrideNotes(now), []string{"used by " + v.usedBy()}), columnsOf(oneLine(v.Name))+2, width)
	// The table has at least half of the room, what is below the rest.
	space := max(1, room-1-min(len(below)+1, room/2))
	lines := []line{append(line{{notSelected, plain}}, head...)}
	first := max(0, at-space+1)
	for i, row := range body[first:min(len(body), first+space)] {
		mark := piece{notSelected, plain}
		if first+i == at {
			mark = piece{isSelected, bold}
		}
		lines = append(lines, append(line{mark}, row...))
	}
	if left := room - len(lines) - 1; left > 0 {
		lines = append(append(lines, line{}), below[:min(left, len(below))]...)
	}
	return lines
}

// processLines are the table of processes.
func (m topModel) processLines(width, room int) []line {
	rows := m.processRows()
	head, body := tabulate(processColumns, rows, width, m.processBy, m.backwards)
	if len(rows) == 0 {
		return []line{head, {{"no process is attached" + m.filtered(), faint}}}
	}
	if room > 0 {
		m.offset = min(m.offset, max(0, len(rows)-room+1))
		body = body[m.offset:min(len(body), m.offset+room-1)]
	}
	return append([]line{head}, body...)
}

func (m topModel) filtered() string {
	if m.filter == "" {
		return ""
	}
	return " that /" + printable(m.filter) + " finds: esc shows all"
}

// sortedName is the column that the rows are sorted by: there may be no room
// for it.
func (m topModel) sortedName() string {
	if m.processes {
		return processColumns[m.processBy].head
	}
	return upstreamColumns(m.at)[m.sortedBy].head
}

// footLine names the keys.
func (m topModel) footLine() line {
	if m.typing {
		return line{{"/" + printable(m.filter) + "_", bold}, {"  enter keeps it, esc shows all", faint}}
	}
	view := "p processes"
	if m.processes {
		view = "p upstreams"
	}
	return line{{strings.Join([]string{"q quit", "h help", "←→ sort", "↑↓ select", view, "/ filter", "space pause"}, "  "), faint}}
}

// helpScreen explains the keys and the columns.
func helpScreen() (lines []line) {
	for row := range strings.SplitSeq(topHelp, "\n") {
		lines = append(lines, line{{row, plain}})
	}
	return lines
}

const topHelp = `resagent top: the upstreams of this host, and what is to be said of them

  q              quit                     left right s   sort by another column
  up down        select an upstream       r              the other way round
  p              processes, or upstreams  /              show what contains a text
  space          stop, and go on          esc            show all again

  STATE    of the circuits: of several, the worst, and how many are so;
           own: each process keeps its own; off: there are none
  PROBE    when the next probe of an open circuit is let through
  IN USE   permits of the bulkhead, of how many; - where there is none
  WAIT     callers that wait for a permit or a token
  RATE/S   attempts a second, of how many the rate limit allows
  BUDGET   tokens for retries that are left, of how many; a retry costs 14
  AMPL     attempts for each call that was sent: 1 without retries
  STALE    part of the calls that the fallback answered
  PROCS    processes; ! where the counts of one cannot be, and are left out

CALLS/S, RATE/S, AMPL and STALE are of the last 10 seconds; of processes, AMPL
and STALE are of all their calls. - is not known: no calls, or a transport that
does not count them.

any key goes back`
