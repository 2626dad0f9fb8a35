package main

import "fmt"

// row is a line of the budget: what was promised, and what was measured.
type row struct {
	what, goal string
	measured   string
	met        string // "yes", "no", or "not measured"
	why        string // where it is not met: what the limit is
}

// Parts of others that the budget and the plots read.
const (
	partGET  = "calls: GET"
	partPOST = "calls: POST of 10 KiB with GetBody"
	partMiB  = "calls: POST of 1 MiB with GetBody"

	partAtOnce = "calls: GET by all processors at once, 64 MiB of live heap"
)

// budget is the table of the goals, from the results.
func budget(r *Results) []row {
	rows := []row{
		part(r, "A call through the full chain, beside failsafe-go's equal stack, less the bare base", "at most 0.35 of it",
			partGET, oursOwn, failsafe, bare, 0.35, "allocation, the clock, locks, and the copy of the request are what is left: DESIGN.md, \"What a call costs\""),
		part(r, "The same call, limits shared by the host", "at most 0.35 of it", partGET, oursHost, failsafe, bare, 0.35, "as above"),
		allocations(r),
		part(r, "POST of 10 KiB with GetBody, beside the same", "at most 0.2 of it", partPOST, oursHost, failsafe, bare, 0.2, "as the first row"),
		bytesOf(r),
		atMost(r, "Host-wide permit, acquire and release, uncontended", "at most 30 ns", "permits", permitHost, 30, 1, "ns"),
		times(r),
		atMost(r, "Hand-over of one contended permit between two processes, median", "at most 60 us", "hand-over", "median, held for 0s", 60e3, 1e3,
			"us"),
		atLeast(r, "Use of a contended limit, calls of 1 ms", "at least 0.95", "hand-over", "use of the limit, held for 1ms", 0.95),
		atLeast(r, "Use of a contended limit, calls of 5 ms", "at least 0.95", "hand-over", "use of the limit, held for 5ms", 0.95),
		looped(r, "HTTP over loopback, limits of the host: throughput beside the bare transport", partFull, throughput, "at least 0.95 of it", atLeastOf(0.95)),
		looped(r, "HTTP over loopback: p99", partFull, late, "at most 1.10 of it", atMostOf(1.10)),
		looped(r, "The same in a process with 64 MiB of live heap: throughput", partHeap, throughput, "at least 0.95 of it", atLeastOf(0.95)),
		looped(r, "In that process: p99", partHeap, late, "at most 1.10 of it", atMostOf(1.10)),
		ratio(r, "A call, 10,000 upstreams beside 1", "does not grow (at most 1.10)", "upstreams", "a call, one of 10000 upstreams",
			"a call, one of 1 upstreams", atMostOf(1.10), ""),
		ratio(r, "Calls to 10,000 upstreams in turn beside 1", "does not grow (at most 1.10)", "upstreams", "calls to 10000 upstreams in turn",
			"calls to 1 upstreams in turn", atMostOf(1.10),
			"each upstream's state, some thirty places, comes from memory instead of the processor's cache"),
		ratio(r, "A permit, 64 processes beside 1", "does not grow (at most 1.10)", "processes", "a permit, 64 processes attached",
			"a permit, 1 processes attached", atMostOf(1.10), "the other processes are idle: what else the machine did"),
		granted(r),
		atMost(r, "Agent with 1,000 sessions, 100 upstreams: RssAnon", "at most 64 MiB", partSessions, sessionsRSS(1000), 64, 1, "MiB"),
		atMost(r, "The same agent, nobody calls: processor time", "at most 0.5 % of a core", partSessions, sessionsIdle(1000), 0.005, 0.01, "%"),
	}
	return append(rows, cacheRows(r)...)
}

func atMostOf(most float64) func(float64) bool   { return func(v float64) bool { return v <= most } }
func atLeastOf(least float64) func(float64) bool { return func(v float64) bool { return v >= least } }

// granted is how many grants a second the agent's decisions allow.
func granted(r *Results) row {
	what, goal := "Grants of the agent, 10 processes on the limit, without messages", "at least 50,000 a second"
	s := r.find(partGrants, fmt.Sprintf(handedOver, 10))
	if s == nil {
		return unmeasured(what, goal)
	}
	m := summary(s.Values)
	return judged(what, goal, fmt.Sprintf("%.0f a second %s", 1e9/m.Center, spread(m)), 1e9/m.Center >= 50_000, "")
}

// unmeasured is a row of which the results say nothing.
func unmeasured(what, goal string) row { return row{what: what, goal: goal, met: "not measured"} }

func judged(what, goal, measured string, ok bool, why string) row {
	if ok {
		return row{what, goal, measured, "yes", ""}
	}
	return row{what, goal, measured, "no", why}
}

// part compares two things of a comparison, less what the base costs.
func part(r *Results, what, goal, in, ours, theirs, base string, most float64, why string) row {
	a, b, z := r.find(in, ours), r.find(in, theirs), r.find(in, base)
	if a == nil || b == nil || z == nil {
		return unmeasured(what, goal)
	}
	s := summary(ratios(a, b, z))
	return judged(what, goal, fmt.Sprintf("%.2f %s", s.Center, spread(s)), s.Center <= most, why)
}

func ratio(r *Results, what, goal, in, ours, theirs string, ok func(float64) bool, why string) row {
	a, b := r.find(in, ours), r.find(in, theirs)
	if a == nil || b == nil {
		return unmeasured(what, goal)
	}
	s := summary(ratios(a, b, nil))
	return judged(what, goal, fmt.Sprintf("%.2f %s", s.Center, spread(s)), ok(s.Center), why)
}

// atMost compares a median with a number; per is the unit's size in the
// series' own.
func atMost(r *Results, what, goal, in, name string, most, per float64, unit string) row {
	s := r.find(in, name)
	if s == nil {
		return unmeasured(what, goal)
	}
	why := ""
	if in == "hand-over" {
		why = "a hand-over is two messages by way of the agent, and three processes that the kernel has to give a processor in turn"
		if least := r.find(in, twoWakes); least != nil {
			why += fmt.Sprintf("; two bytes alone take %.3g %s here", least.median()/per, unit)
		}
	}
	m := summary(s.Values)
	return judged(what, goal, fmt.Sprintf("%.3g %s %s", m.Center/per, unit, spread(m)), m.Center <= most, why)
}

func atLeast(r *Results, what, goal, in, name string, least float64) row {
	s := r.find(in, name)
	if s == nil {
		return unmeasured(what, goal)
	}
	m := summary(s.Values)
	return judged(what, goal, fmt.Sprintf("%.3f %s", m.Center, spread(m)), m.Center >= least,
		"what is missing is the hand-over between two calls")
}

func allocations(r *Results) row {
	what, goal := "Its allocations over the bare base", "at most 10"
	a, b, z := r.find(partGET, oursHost), r.find(partGET, failsafe), r.find(partGET, bare)
	if a == nil || b == nil || z == nil {
		return unmeasured(what, goal)
	}
	n := a.Allocs - z.Allocs
	return judged(what, goal, fmt.Sprintf("%d (failsafe-go: %d)", n, b.Allocs-z.Allocs), n <= 10, "")
}

// bytesOf says whether a body of 1 MiB is copied: what is allocated over the
// bare base would say so.
func bytesOf(r *Results) row {
	what, goal := "POST of 1 MiB with GetBody, allocated over the bare base", "no copy"
	a, b, z := r.find(partMiB, oursHost), r.find(partMiB, failsafe), r.find(partMiB, bare)
	if a == nil || b == nil || z == nil {
		return unmeasured(what, goal)
	}
	n := a.Bytes - z.Bytes
	return judged(what, goal, fmt.Sprintf("%d B (failsafe-go: %d KiB)", n, (b.Bytes-z.Bytes)>>10), n < 64<<10, "")
}

// times compares a permit with asking Redis.
func times(r *Results) row {
	what, goal := "The permit, beside a token from Redis on loopback", "at least 1,000 times cheaper"
	a, b := r.find("permits", permitHost), r.find("permits", permitRedis)
	if a == nil || b == nil {
		return unmeasured(what, goal)
	}
	s := summary(ratios(b, a, nil))
	return judged(what, goal, fmt.Sprintf("%.0f times %s", s.Center, spread(s)), s.Center >= 1000, "")
}
