//go:build linux

package agent

import (
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/agent/wire"
)

// Where there is no room for a circuit, those give way that are closed and that
// nobody has called for long: a process that calls ever other authorities shares
// those that it calls now. Who calls one of the others again asks for its cell
// again.

const (
	// circuitRests is how long: then what was said of calls counts no more.
	circuitRests = remembered
	// seekEvery is how often cells are read to make room in a page, and for a
	// user on the host; cellsSought bounds how many for that, and cellsAtOnce
	// how many are taken.
	seekEvery   = time.Second
	cellsSought = 10 * cellsAtOnce
)

// mayGiveWay says whether nothing hangs on the circuit but who calls it.
func (a *Agent) mayGiveWay(c *circuit, now time.Duration) bool {
	return c.word.State() == page.CircuitClosed && c.forced == nil && c.next == 0 && a.control.Pause(c.entry) <= now
}

// takeCell takes a circuit's cell back from a process, and tells it.
func (a *Agent) takeCell(c *circuit, p *process, why string) {
	delete(p.outcomes, c.callers[p].index)
	c.left(p)
	if p.session != nil {
		sendGone(p, wire.Cell{Upstream: c.key.upstream, Authority: c.key.authority, Kind: wire.CircuitBreaker, Index: -1, Reason: why})
	}
}

// roomInPage makes room among the cells of a process, if there can be any.
func (a *Agent) roomInPage(p *process, now time.Duration) bool {
	if now < p.sought+seekEvery {
		return false
	}
	p.sought = now
	for _, c := range p.outcomes {
		if a.mayGiveWay(c, now) && c.callers[p].quiet(now) >= circuitRests {
			a.takeCell(c, p, "not called for a while, and others were")
			a.dropCircuit(c)
		}
	}
	return len(p.outcomes) < a.circuits.inPage
}

// roomOnHost makes room among the circuits that a user began, or among all of
// the host's.
func (a *Agent) roomOnHost(uid int, anybodys bool) bool {
	now := a.now()
	if last, ok := a.circuits.sought[uid]; ok && now < last+seekEvery {
		return false
	}
	a.circuits.sought[uid] = now
	taken, read := 0, 0
	for _, c := range a.circuits.all {
		if !a.mayGiveWay(c, now) || !anybodys && a.circuits.starts[c] != uid {
			continue
		}
		if read += len(c.callers); read > cellsSought || taken > cellsAtOnce {
			break
		}
		if c.calledWithin(circuitRests, now) {
			continue
		}
		taken += len(c.callers)
		for p := range c.callers {
			a.takeCell(c, p, "nobody has called it for a while, and others were")
		}
		a.dropCircuit(c)
	}
	return taken > 0
}

func (c *circuit) calledWithin(d, now time.Duration) bool {
	for _, one := range c.callers {
		if one.quiet(now) < d {
			return true
		}
	}
	return false
}

// quiet is how long the process has not called since it got the cell.
func (c *caller) quiet(now time.Duration) time.Duration {
	return now - max(c.got, c.cell.Read().Last)
}
