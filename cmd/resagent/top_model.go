package main

import (
	"slices"
	"strings"
	"time"

	"github.com/resagent/resagent/agent"
)

// topModel is what top knows and what its user chose. Its methods touch no
// terminal and ask no clock.
type topModel struct {
	socket   string
	interval time.Duration

	status  agent.Status
	at      time.Time // of the status
	trouble string    // why there is no newer one; empty: there is
	since   time.Time
	calls   map[processKey]float64 // a second, of each process

	sortedBy  int // the column of the upstreams
	processBy int // the same of the processes
	backwards bool
	processes bool // shown in place of the upstreams
	selected  string
	filter    string
	typing    bool // the filter
	help      bool
	paused    bool
	offset    int // of the first process
}

type processKey struct {
	pid      int
	upstream string
}

// stateColumn is what the upstreams are sorted by at first: the worst comes
// first. callsColumn the same of the processes.
const (
	stateColumn = 1
	inUseColumn = 4
)

func newTopModel(socket string, interval time.Duration) *topModel {
	return &topModel{socket: socket, interval: interval, sortedBy: stateColumn, processBy: inUseColumn}
}

// take has the model show another status.
func (m *topModel) take(s agent.Status, at time.Time) {
	if over := at.Sub(m.at).Seconds(); s.Started.Equal(m.status.Started) && over > 0 && !m.at.IsZero() {
		m.calls = map[processKey]float64{}
		was := map[processKey]uint64{}
		for _, u := range m.status.Upstreams {
			for _, p := range u.Busiest {
				was[processKey{p.PID, u.Name}] = p.Calls.Total()
			}
		}
		for _, u := range s.Upstreams {
			for _, p := range u.Busiest {
				key := processKey{p.PID, u.Name}
				if n, ok := was[key]; ok && p.Calls.Total() >= n && p.Calls.Total() > 0 {
					m.calls[key] = float64(p.Calls.Total()-n) / over
				}
			}
		}
	} else {
		m.calls = nil
	}
	m.status, m.at, m.trouble = s, at, ""
}

// fail notes that the agent did not answer.
func (m *topModel) fail(err error, at time.Time) {
	if m.trouble == "" {
		m.since = at
	}
	m.trouble = oneLine(err.Error())
}

// key does what a key asks for; true: end.
func (m *topModel) key(key string) (quit bool) {
	if m.typing {
		m.typeFilter(key)
		return false
	}
	if m.help {
		m.help = false
		return key == "q"
	}
	switch key {
	case "q":
		return true
	case "h", "?":
		m.help = true
	case " ":
		m.paused = !m.paused
	case "p":
		m.processes, m.offset, m.backwards = !m.processes, 0, false
	case "/":
		m.typing = true
	case "esc":
		m.filter = ""
	case "s", "right", ">":
		m.sortBy(1)
	case "left", "<":
		m.sortBy(-1)
	case "r":
		m.backwards = !m.backwards
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pageup":
		m.move(-10)
	case "pagedown":
		m.move(10)
	case "home":
		m.move(-1 << 20)
	case "end":
		m.move(1 << 20)
	}
	return false
}

const longestFilter = 64

func (m *topModel) typeFilter(key string) {
	switch {
	case key == "enter":
		m.typing = false
	case key == "esc":
		m.typing, m.filter = false, ""
	case key == "backspace":
		if letters := []rune(m.filter); len(letters) > 0 {
			m.filter = string(letters[:len(letters)-1])
		}
	case len([]rune(key)) == 1 && len(m.filter) < longestFilter:
		m.filter += key
	}
	m.offset = 0
}

// sortBy goes on to the next column that there is an order of.
func (m *topModel) sortBy(step int) {
	m.backwards = false
	if m.processes {
		m.processBy = nextOrdered(processColumns, m.processBy, step)
		return
	}
	m.sortedBy = nextOrdered(upstreamColumns(m.at), m.sortedBy, step)
}

func nextOrdered[T any](all []column[T], at, step int) int {
	for range all {
		if at = (at + step + len(all)) % len(all); all[at].before != nil {
			break
		}
	}
	return at
}

// move selects another upstream, or goes along the processes.
func (m *topModel) move(by int) {
	if m.processes {
		m.offset = max(0, min(m.offset+by, len(m.processRows())-1))
		return
	}
	rows := m.upstreamRows()
	if len(rows) == 0 {
		return
	}
	at := max(0, slices.IndexFunc(rows, func(v *upstreamView) bool { return v.Name == m.selected }))
	m.selected = rows[min(max(0, at+by), len(rows)-1)].Name
}

func (m *topModel) matches(words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(w), strings.ToLower(m.filter)) })
}

// upstreamRows are those that the filter leaves, in order.
func (m *topModel) upstreamRows() []*upstreamView {
	rows := slices.DeleteFunc(upstreamViews(m.status), func(v *upstreamView) bool { return !m.matches(v.Name, v.state) })
	order(rows, upstreamColumns(m.at)[m.sortedBy].before, m.backwards)
	return rows
}

// processRows are the processes of all upstreams, or of the selected one.
func (m *topModel) processRows() []*processView {
	rows := slices.DeleteFunc(processViews(upstreamViews(m.status)), func(p *processView) bool {
		return !m.matches(p.upstream, p.Command, userName(p.UID))
	})
	for _, p := range rows {
		if x, ok := m.calls[processKey{p.PID, p.upstream}]; ok {
			p.calls = &x
		}
	}
	order(rows, processColumns[m.processBy].before, m.backwards)
	return rows
}

func order[T any](rows []T, before func(a, b T) int, backwards bool) {
	slices.SortStableFunc(rows, func(a, b T) int {
		if backwards {
			return before(b, a)
		}
		return before(a, b)
	})
}
