//go:build linux

package agent

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"

	"github.com/resagent/resagent/agent/wire"
)

// metrics answers /metrics in the text format of Prometheus, version 0.0.4.
// Labels are names of upstreams in the policies and words of ours: what a peer
// says never becomes one.
func (a *Agent) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(exposition(a.status(0), a.events.count()))
}

// exposition is the whole text.
func exposition(s Status, counts map[EventKind]uint64) []byte {
	var b bytes.Buffer
	one := func(name, kind, help, value string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s %s\n", name, help, name, kind, name, value)
	}
	lost, refused, sharing := 0, 0, 0
	if s.Ledger == "lost" {
		lost = 1
	}
	if s.Refused != "" {
		refused = 1
	}
	for _, p := range s.Sessions {
		if p.Shares {
			sharing++
		}
	}
	one("resagent_start_time_seconds", "gauge", "When the agent started, in seconds since 1970.", strconv.FormatFloat(float64(s.Started.UnixMilli())/1000, 'f', 3, 64))
	one("resagent_policy_generation", "gauge", "Counts the policy sets put in force since the start.", strconv.FormatUint(s.Generation, 10))
	one("resagent_policy_reload_refused", "gauge", "1 where the last reload was refused, and the policies before it are in force.", strconv.Itoa(refused))
	one("resagent_policy_upstreams", "gauge", "Upstreams that the policies name.", strconv.Itoa(s.Named))
	one("resagent_ledger_lost", "gauge", "1 where the ledger of an earlier agent was lost.", strconv.Itoa(lost))
	one("resagent_goroutines", "gauge", "Goroutines of the agent.", strconv.Itoa(runtime.NumGoroutine()))
	one("resagent_sessions", "gauge", "Processes that are attached.", strconv.Itoa(len(s.Sessions)))
	one("resagent_sessions_sharing", "gauge", "Of those, processes that share limits.", strconv.Itoa(sharing))
	refusalMetrics(&b, s.Refusals)
	fmt.Fprintf(&b, "# HELP resagent_events_total Events since the start, by kind.\n# TYPE resagent_events_total counter\n")
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "resagent_events_total{kind=%q} %d\n", string(kind), counts[kind])
	}
	for _, g := range []struct {
		name, help string
		of         func(LimitStatus) int
		not        wire.Kind // has no such value
	}{
		{"capacity", "Permits, burst or tokens that the policy allows the host.", func(l LimitStatus) int { return l.Limit }, ""},
		{"granted", "Out in the memory of processes.", func(l LimitStatus) int { return l.Granted }, ""},
		{"in_use", "Used at this moment.", func(l LimitStatus) int { return l.InUse + l.Extra }, ""},
		{"available", "Granted and idle.", func(l LimitStatus) int { return l.Available }, ""},
		{"waiting", "Callers that wait, or the tokens they wait for.", func(l LimitStatus) int { return l.Waiting }, ""},
		{"tokens", "Tokens that are left to grant.", func(l LimitStatus) int { return l.Level }, wire.Bulkhead},
		{"processes", "Processes that use the limit.", func(l LimitStatus) int { return l.Processes }, ""},
	} {
		name := "resagent_limit_" + g.name
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, g.help, name)
		for _, l := range s.Limits {
			if l.Kind != g.not {
				fmt.Fprintf(&b, "%s{upstream=%q,kind=%q} %d\n", name, l.Upstream, string(l.Kind), g.of(l))
			}
		}
	}
	circuitMetrics(&b, s.Circuits)
	trafficMetrics(&b, s.Upstreams)
	return b.Bytes()
}

// refusalMetrics counts what was refused, and says 0 of what was not.
func refusalMetrics(b *bytes.Buffer, all []Refusal) {
	for _, m := range []struct{ what, help string }{
		{sessions, "Sessions that were refused, by reason: the process is without limits of the host."},
		{connections, "Connections that were refused, by reason, to either socket: sessions, commands and scrapes."},
	} {
		name := "resagent_" + m.what + "s_refused_total"
		fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s counter\n", name, m.help, name)
		for _, why := range causes[m.what] {
			var n uint64
			if i := slices.IndexFunc(all, func(r Refusal) bool { return r.What == m.what && r.Reason == string(why) }); i >= 0 {
				n = all[i].Count
			}
			fmt.Fprintf(b, "%s{reason=%q} %d\n", name, string(why), n)
		}
	}
}

// trafficMetrics counts calls by upstream. Processes come and go, and the
// counters go on; they begin again where resagent_start_time_seconds changes.
func trafficMetrics(b *bytes.Buffer, all []UpstreamStatus) {
	for _, m := range []struct {
		name, kind, help string
		of               func(UpstreamStatus) uint64
	}{
		{"resagent_calls_total", "counter", "Calls that have ended, by the counts of the processes.", func(u UpstreamStatus) uint64 { return u.Calls.Total() }},
		{"resagent_calls_sent_total", "counter", "Of those, calls of which at least one attempt was sent.", func(u UpstreamStatus) uint64 { return u.Calls.Sent }},
		{"resagent_attempts_total", "counter", "Attempts that were sent for them, retries and hedges included.", func(u UpstreamStatus) uint64 { return u.Calls.Attempts }},
		{"resagent_fallback_answers_total", "counter", "Calls that were answered from the stale cache, or with the fixed answer.", func(u UpstreamStatus) uint64 { return u.Calls.Fallback }},
		{"resagent_processes_doubted", "gauge", "Processes whose counts cannot be, and are left out.", func(u UpstreamStatus) uint64 { return uint64(u.Doubted) }},
	} {
		fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
		for _, u := range all {
			fmt.Fprintf(b, "%s{upstream=%q} %d\n", m.name, u.Name, m.of(u))
		}
	}
}

// circuitMetrics counts circuits by upstream and state: an authority is what a
// peer says, and so no label.
func circuitMetrics(b *bytes.Buffer, all []CircuitStatus) {
	type key struct{ upstream, state string }
	states, probes, callers := map[key]int{}, map[string]int{}, map[string]int{}
	for _, c := range all {
		for _, s := range []string{"closed", "open", "half-open", "closing", "forced", "paused"} {
			states[key{c.Upstream, s}] += 0
		}
		states[key{c.Upstream, c.State}]++
		if c.Forced != nil {
			states[key{c.Upstream, "forced"}]++
		}
		if !c.PausedUntil.IsZero() {
			states[key{c.Upstream, "paused"}]++
		}
		probes[c.Upstream] += c.Probes
		callers[c.Upstream] += c.Callers
	}
	fmt.Fprint(b, "# HELP resagent_circuits Circuits of the host by state; forced and paused ones are in another state too.\n# TYPE resagent_circuits gauge\n")
	for _, k := range slices.SortedFunc(maps.Keys(states), func(x, y key) int {
		return cmp.Or(cmp.Compare(x.upstream, y.upstream), cmp.Compare(x.state, y.state))
	}) {
		fmt.Fprintf(b, "resagent_circuits{upstream=%q,state=%q} %d\n", k.upstream, k.state, states[k])
	}
	for _, g := range []struct {
		name, help string
		of         map[string]int
	}{
		{"resagent_circuit_probes", "Probes under way.", probes},
		{"resagent_circuit_callers", "Processes that use the upstream's circuits, once for each.", callers},
	} {
		fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s gauge\n", g.name, g.help, g.name)
		for _, upstream := range slices.Sorted(maps.Keys(g.of)) {
			fmt.Fprintf(b, "%s{upstream=%q} %d\n", g.name, upstream, g.of[upstream])
		}
	}
}
