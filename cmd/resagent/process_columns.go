package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/resagent/resagent/agent"
)

// processView is one process's use of one upstream.
type processView struct {
	agent.ProcessStatus
	upstream string
	calls    *float64 // a second, since the frame before; nil: not known
}

func processViews(all []*upstreamView) (views []*processView) {
	for _, u := range all {
		for _, p := range u.Busiest {
			views = append(views, &processView{ProcessStatus: p, upstream: u.Name})
		}
	}
	return views
}

// processColumns are those of top's processes, and of status of one upstream.
var processColumns = []column[*processView]{
	{head: "PID", right: true, cell: func(p *processView) piece { return piece{strconv.Itoa(p.PID), plain} },
		before: func(a, b *processView) int { return cmp.Compare(a.PID, b.PID) }},
	{head: "COMMAND", least: 8, cell: func(p *processView) piece {
		if p.Command == "" {
			return piece{"?", faint}
		}
		return piece{oneLine(p.Command), plain}
	}, before: func(a, b *processView) int { return strings.Compare(a.Command, b.Command) }},
	{head: "USER", least: 8, rank: 4, cell: func(p *processView) piece { return piece{oneLine(userName(p.UID)), plain} },
		before: func(a, b *processView) int { return strings.Compare(userName(a.UID), userName(b.UID)) }},
	{head: "UPSTREAM", least: 10, cell: func(p *processView) piece { return piece{oneLine(p.upstream), plain} },
		before: func(a, b *processView) int { return strings.Compare(a.upstream, b.upstream) }},
	{head: "IN USE", right: true, rank: 2, cell: func(p *processView) piece { return piece{short(p.InUse), plain} },
		before: func(a, b *processView) int { return cmp.Compare(b.InUse, a.InUse) }},
	{head: "WAIT", right: true, rank: 3, cell: func(p *processView) piece { return piece{short(p.Waiting), worse(float64(p.Waiting), 1, 1e9)} },
		before: func(a, b *processView) int { return cmp.Compare(b.Waiting, a.Waiting) }},
	{head: "CALLS/S", right: true, rank: 8, cell: func(p *processView) piece { return figure(p.calls, rough, plain) },
		before: func(a, b *processView) int { return descending(a.calls, b.calls) }},
	{head: "CALLS", right: true, rank: 9, cell: func(p *processView) piece {
		if p.Calls.Total() == 0 {
			return piece{unknown, faint}
		}
		return piece{short(int(min(p.Calls.Total(), 1<<40))), plain}
	}, before: func(a, b *processView) int { return cmp.Compare(b.Calls.Total(), a.Calls.Total()) }},
	{head: "AMPL", right: true, rank: 5, cell: func(p *processView) piece {
		return figure(p.Calls.Amplification, func(x float64) string { return fmt.Sprintf("%.2f", x) }, plain)
	}, before: func(a, b *processView) int { return descending(a.Calls.Amplification, b.Calls.Amplification) }},
	{head: "STALE", right: true, rank: 6, cell: func(p *processView) piece { return figure(p.Calls.FallbackShare, percent, plain) },
		before: func(a, b *processView) int { return descending(a.Calls.FallbackShare, b.Calls.FallbackShare) }},
	{head: "OWN TROUBLES", right: true, rank: 7, cell: func(p *processView) piece {
		return piece{short(int(min(p.OwnTroubles, 1<<40))), worse(float64(p.OwnTroubles), 1, 1e18)}
	}, before: func(a, b *processView) int { return cmp.Compare(b.OwnTroubles, a.OwnTroubles) }},
	{head: "", least: 8, rank: 10, cell: func(p *processView) piece {
		switch {
		case p.Doubted:
			return piece{"its counts cannot be", bad}
		case !p.Attached:
			return piece{"away", warn}
		}
		return piece{}
	}},
}
