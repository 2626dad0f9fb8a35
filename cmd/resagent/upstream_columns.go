package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	unknown    = "-"
	usedByHead = "USED BY"
)

// upstreamColumns are those of status and top, in order. now is what times are
// told from.
func upstreamColumns(now time.Time) []column[*upstreamView] {
	type row = *upstreamView
	return []column[row]{
		{head: "UPSTREAM", least: 12, cell: func(v row) piece { return piece{oneLine(v.Name), plain} },
			before: func(a, b row) int { return strings.Compare(a.Name, b.Name) }},
		{head: "STATE", cell: func(v row) piece { return piece{v.state, v.style()} }, before: worst},
		{head: "PROBE", right: true, rank: 9, cell: func(v row) piece { return piece{probeIn(v, now), plain} }},
		{head: "IN USE", right: true, rank: 1, cell: func(v row) piece {
			if v.bulkhead == nil {
				return piece{unknown, faint}
			}
			return piece{short(v.inUse()) + "/" + short(v.bulkhead.Limit), fullness(v.inUse(), v.bulkhead.Limit)}
		}, before: func(a, b row) int { return cmp.Compare(b.inUse(), a.inUse()) }},
		{head: "WAIT", right: true, rank: 4, cell: func(v row) piece {
			if v.bulkhead == nil && v.rate == nil {
				return piece{unknown, faint}
			}
			return piece{short(v.waiting()), worse(float64(v.waiting()), 1, 1e9)}
		}, before: func(a, b row) int { return cmp.Compare(b.waiting(), a.waiting()) }},
		{head: "CALLS/S", right: true, rank: 8, cell: func(v row) piece {
			calls, _ := v.perSecond()
			return figure(calls, rough, plain)
		}, before: func(a, b row) int {
			x, _ := a.perSecond()
			y, _ := b.perSecond()
			return descending(x, y)
		}},
		{head: "RATE/S", right: true, rank: 5, cell: rateCell, before: func(a, b row) int {
			_, x := a.perSecond()
			_, y := b.perSecond()
			return descending(x, y)
		}},
		{head: "BUDGET", right: true, rank: 6, cell: func(v row) piece {
			if v.budget == nil {
				return piece{unknown, faint}
			}
			p := piece{short(v.tokens()) + "/" + short(v.budget.Limit), plain}
			if v.tokens() < min(14, v.budget.Limit) { // not enough for a retry
				p.style = warn
			}
			return p
		}, before: func(a, b row) int { return cmp.Compare(a.tokens(), b.tokens()) }},
		{head: "AMPL", right: true, rank: 2, cell: func(v row) piece {
			a := v.amplification()
			if a == nil {
				return piece{unknown, faint}
			}
			return piece{fmt.Sprintf("%.2f", *a), worse(*a, 1.1, 1.5)}
		}, before: func(a, b row) int { return descending(a.amplification(), b.amplification()) }},
		{head: "STALE", right: true, rank: 3, cell: func(v row) piece {
			s := v.fallbackShare()
			if s == nil {
				return piece{unknown, faint}
			}
			return piece{percent(*s), worse(*s, 1e-9, 2)}
		}, before: func(a, b row) int { return descending(a.fallbackShare(), b.fallbackShare()) }},
		{head: "PROCS", right: true, rank: 7, cell: func(v row) piece {
			if v.Doubted > 0 {
				return piece{short(v.Processes) + "!", warn}
			}
			return piece{short(v.Processes), plain}
		}, before: func(a, b row) int { return cmp.Compare(b.Processes, a.Processes) }},
		{head: usedByHead, least: 30, rank: 10, cell: func(v row) piece { return piece{v.usedBy(), plain} }},
	}
}

// rateCell is what was used of the rate limit, or how many attempts there were
// where there is none.
func rateCell(v *upstreamView) piece {
	_, attempts := v.perSecond()
	p := figure(attempts, rough, plain)
	if v.rate == nil {
		return p
	}
	if attempts != nil && *attempts >= 0.95*v.rate.PerSecond {
		p.style = warn
	}
	p.text += "/" + rough(v.rate.PerSecond)
	return p
}

// probeIn is when the next probe is let through.
func probeIn(v *upstreamView, now time.Time) string {
	if v.next.IsZero() {
		if v.trouble == isHalfOpen {
			return "now"
		}
		return ""
	}
	return span(v.next.Sub(now))
}

// figure is a number that may not be known.
func figure(x *float64, text func(float64) string, s style) piece {
	if x == nil {
		return piece{unknown, faint}
	}
	return piece{text(*x), s}
}

// descending orders what is not known last.
func descending(a, b *float64) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*b, *a)
}

// worse is the style of a number that begins to matter at some value, and
// matters at a larger.
func worse(x, some, much float64) style {
	switch {
	case x >= much:
		return bad
	case x >= some:
		return warn
	}
	return plain
}

func fullness(n, limit int) style {
	if n >= limit {
		return warn
	}
	return plain
}

// short is a count in at most 5 letters.
func short(n int) string {
	switch {
	case n < 100_000:
		return strconv.Itoa(n)
	case n < 10_000_000:
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n/1_000_000) + "M"
}

// rough is a rate in at most 5 letters.
func rough(x float64) string {
	if x > 0 && x < 9.95 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
	}
	return short(int(x + 0.5))
}

// percent does not round away what there is.
func percent(x float64) string {
	switch {
	case x > 0 && x < 0.005:
		return "<1%"
	case x < 1 && x >= 0.995:
		return ">99%"
	}
	return fmt.Sprintf("%.0f%%", 100*x)
}

// span is a time to come, or that has passed, in two figures or so.
func span(d time.Duration) string {
	switch d = max(0, d); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
