//go:build linux

package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/page"
)

const circuitPolicies = `version: 1
defaults:
  retry: {disabled: true}
upstreams:
  shop:
    match: [{host: %q}]
    circuit_breaker: {open_for: 500ms, max_open_for: 500ms, scope: %s}
`

// circuit is the one circuit that the agent has; the zero value if it has none.
func (h *host) circuit() agent.CircuitStatus {
	if all := h.status().Circuits; len(all) > 0 {
		return all[0]
	}
	return agent.CircuitStatus{}
}

// pace has all workers call again and again, each with a pause between calls.
func pace(all []*worker, u *upstream, path string, pause time.Duration) {
	for _, w := range all {
		w.order(order{URL: u.server.URL + path, Load: 1, Pause: pause})
	}
}

// One process learns that the upstream is down, all are spared; one probe for
// the host finds that it is back, and then all call again.
func TestCircuitIsShared(t *testing.T) {
	const processes = 12
	u := newUpstream(t, seeded(t))
	h := newHost(t, fmt.Sprintf(circuitPolicies, u.host(), "host"))
	h.start()
	all := h.workers(processes)
	pace(all, u, pathSick, 40*time.Millisecond)
	h.eventually("called by all", func() bool { return h.circuit().Callers == processes })
	u.further(4 * processes)

	died := u.count()
	u.sick.Store(true)
	h.eventually("open", func() bool { return h.circuit().State == "open" })
	open := u.count()
	sent := open.calls - died.calls
	t.Logf("%d calls were sent from the upstream's death until the circuit was seen open (each process alone: %d)", sent, 20*processes)
	if sent > 20*processes/3 {
		t.Errorf("%d failing calls before the circuit opened for all", sent)
	}

	// Two seconds of outage: what comes now are probes, one at a time.
	u.allow(1 + open.inFlight)
	h.eventually("three more openings", func() bool { return strings.Count(h.logged(), "state=open") >= 4 })
	probes := u.count().calls - open.calls
	opens := strings.Count(h.logged(), "state=open")
	t.Logf("%d calls in the outage, with %d openings", probes, opens)
	if probes > opens+processes { // what was in flight when it opened
		t.Errorf("%d calls in the outage, with %d openings", probes, opens)
	}

	u.allow(0)
	u.sick.Store(false)
	h.eventually("closed", func() bool { return h.circuit().State == "closed" })
	if out, problems, err := h.run("events"); err != nil ||
		!regexp.MustCompile(`(?m)  circuit-open shop: http://\S+: .+, in \d+ of the 12 processes that call; the next probe in [\d.]+m?s$`).MatchString(out) {
		t.Errorf("events do not say why it opened: %v\n%s%s", err, out, problems)
	}
	before := make([]int, processes)
	u.mu.Lock()
	for i, w := range all {
		before[i] = u.byWorker[w.name]
	}
	u.mu.Unlock()
	h.eventually("calls of all workers", func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		for i, w := range all {
			if u.byWorker[w.name] <= before[i] {
				return false
			}
		}
		return true
	})
	for _, w := range all {
		w.finish()
	}
}

// A process that reaches nobody opens its own circuit, and no other's.
func TestOwnTroubleStaysOwn(t *testing.T) {
	const processes = 5
	u := newUpstream(t, seeded(t))
	h := newHost(t, fmt.Sprintf(circuitPolicies, u.host(), "host"))
	h.start()
	well := h.workers(processes)
	pace(well, u, pathNow, 20*time.Millisecond)
	h.eventually("called by all", func() bool { return h.circuit().Callers == processes })
	ill := h.worker(brokenEnv + "=1")
	pace([]*worker{ill}, u, pathNow, time.Millisecond)
	h.eventually("its own circuit open", func() bool {
		failed := ill.failed()
		return len(failed) > 0 && strings.Contains(failed[len(failed)-1], "circuit open")
	})
	u.further(20 * processes)
	for _, w := range well {
		if r := w.finish(); r.Failed != 0 || r.OK != r.Calls {
			t.Errorf("worker %s: %+v, want no failure", w.name, r)
		}
		w.mustNotFail()
	}
	if strings.Contains(h.logged(), "state=open") {
		t.Error("the circuit was opened for the host")
	}
	ill.finish()
}

// A circuit that a person opened is open in all processes, also when the agent
// is killed and another one comes.
func TestForcedCircuit(t *testing.T) {
	for mode, scope := range map[string]string{"trip": "host", "proportional": "host, mode: proportional"} {
		t.Run(mode, func(t *testing.T) { forceCircuit(t, scope) })
	}
}

func forceCircuit(t *testing.T, scope string) {
	u := newUpstream(t, seeded(t))
	h := newHost(t, fmt.Sprintf(circuitPolicies, u.host(), scope))
	h.start()
	all := h.workers(3)
	pace(all, u, pathNow, 5*time.Millisecond)
	h.eventually("called by all", func() bool { return h.circuit().Callers == 3 })
	u.further(10)
	if _, problems, err := h.run("breaker", "shop", "open", "--for", "5m", "--reason", "test"); err != nil {
		t.Fatalf("breaker: %v: %s", err, problems)
	}
	refused := func() {
		t.Helper()
		for _, w := range all {
			n := len(w.failed())
			h.eventually("refused", func() bool { return len(w.failed()) > n+3 })
		}
		before := u.count().calls
		for _, w := range all {
			n := len(w.failed())
			h.eventually("refused again", func() bool { return len(w.failed()) > n+20 })
		}
		if n := u.count().calls - before; n != 0 {
			t.Errorf("%d calls passed an open circuit", n)
		}
	}
	refused()
	h.kill()
	refused()
	h.start()
	h.sessions(3)
	refused()
	if f := h.status().Forced["shop"]; f == nil || f.Reason != "test" || f.To != "open" {
		t.Errorf("status after the restart says %+v", f)
	}
	if _, problems, err := h.run("breaker", "shop", "auto"); err != nil {
		t.Fatalf("breaker auto: %v: %s", err, problems)
	}
	u.further(30)
	for _, w := range all {
		w.finish()
	}
}

// An agent that is killed while a circuit is open leaves it open.
func TestOpenCircuitOutlivesTheAgent(t *testing.T) {
	u := newUpstream(t, seeded(t))
	h := newHost(t, strings.ReplaceAll(fmt.Sprintf(circuitPolicies, u.host(), "host"), "500ms", "60s"))
	h.start()
	all := h.workers(4)
	pace(all, u, pathSick, 5*time.Millisecond)
	h.eventually("called by all", func() bool { return h.circuit().Callers == 4 }) // else one learns by itself
	u.sick.Store(true)
	h.eventually("open", func() bool { return h.circuit().State == "open" })
	until := h.circuit().Until
	u.inFlight(0)
	before := u.count().calls
	h.kill()
	h.start()
	h.sessions(4)
	h.eventually("known to all again", func() bool { return h.circuit().Callers == 4 })
	if c := h.circuit(); c.State != "open" || c.Until.Sub(until).Abs() > time.Second {
		t.Errorf("after the restart %+v, want open until %v", c, until)
	} else if !regexp.MustCompile(`^as an earlier agent left it; at first: (\d+ failures in a row|\d+ % of \d+ calls in 10s failed), in \d of the 4 processes that call$`).MatchString(c.Why) {
		t.Errorf("after the restart it is open because %q", c.Why)
	}
	if n := u.count().calls - before; n != 0 {
		t.Errorf("%d calls passed an open circuit", n)
	}
	for _, w := range all {
		w.finish()
	}
}

// A circuit that a reload takes from the host is its own again after the next
// one, in processes that have called all the while.
func TestCircuitReturnsToTheHost(t *testing.T) {
	u := newUpstream(t, seeded(t))
	h := newHost(t, fmt.Sprintf(circuitPolicies, u.host(), "host"))
	h.start()
	all := h.workers(3)
	pace(all, u, pathNow, 5*time.Millisecond)
	h.eventually("called by all", func() bool { return h.circuit().Callers == 3 })
	h.reload(fmt.Sprintf(circuitPolicies, u.host(), "process"))
	if c := h.circuit(); c.Upstream != "" {
		t.Errorf("after the reload the host has %+v", c)
	}
	u.further(20)
	h.reload(fmt.Sprintf(circuitPolicies, u.host(), "host"))
	h.eventually("called by all again", func() bool { return h.circuit().Callers == 3 })
	for _, w := range all {
		w.finish()
		w.mustNotFail()
	}
}

// Which statuses are failures a person may change while calls go on. It holds
// for calls and for probes, in all processes.
func TestStatusesAreOverridden(t *testing.T) {
	u := newUpstream(t, seeded(t))
	h := newHost(t, strings.ReplaceAll(fmt.Sprintf(circuitPolicies, u.host(), "host"), "scope: host", "scope: host, statuses: [500]"))
	h.start()
	all := h.workers(4)
	pace(all, u, pathFail, 5*time.Millisecond) // 503
	h.eventually("called by all", func() bool { return h.circuit().Callers == 4 })
	u.further(4 * 4 * consecutive)
	for _, w := range all {
		w.mustNotFail()
	}
	h.override("shop", "circuit_breaker.statuses=[500, 503]", "--for", "5m", "--reason", "test")
	h.eventually("open", func() bool { return h.circuit().State == "open" })
	h.override("clear", "shop")
	h.eventually("closed", func() bool { return h.circuit().State == "closed" })
	opened := strings.Count(h.logged(), "state=open")
	u.further(4 * 4 * consecutive)
	if n := strings.Count(h.logged(), "state=open") - opened; n > 0 || h.circuit().State != "closed" {
		t.Errorf("opened %d times by a status that is no failure any more", n)
	}
	for _, w := range all {
		w.finish()
	}
}

func (h *host) override(args ...string) {
	h.t.Helper()
	if _, problems, err := h.run(append([]string{"override"}, args...)...); err != nil {
		h.t.Fatalf("override %v: %v: %s", args, err, problems)
	}
}

// A change of the statuses begins no new circuit: what was counted under the
// statuses of before counts on.
func TestStatusesKeepTheCount(t *testing.T) {
	const before, between = 30, 20
	u := newUpstream(t, seeded(t))
	h := newHost(t, strings.ReplaceAll(fmt.Sprintf(circuitPolicies, u.host(), "process"), "scope: process",
		fmt.Sprintf("scope: process, window: 1h, consecutive_failures: none, min_requests: %d", before+between)))
	h.start()
	w := h.worker()
	calls := func(n int) { // each a 503
		was := u.count().calls
		w.order(order{URL: u.server.URL + pathFail, Calls: n})
		h.eventually("they were made", func() bool { return u.count().calls == was+n })
	}
	calls(before)
	h.override("shop", "circuit_breaker.statuses=[]", "--for", "5m", "--reason", "test")
	calls(between)
	w.mustNotFail()
	h.override("clear", "shop")
	was := u.count().calls
	pace([]*worker{w}, u, pathFail, 20*time.Millisecond)
	h.eventually("its circuit open", func() bool { return len(w.failed()) > 0 })
	if n := u.count().calls - was; n >= between {
		t.Errorf("it opened after %d more failures: %d of %d calls had failed, and the next one was to open it", n, before, before+between)
	}
	w.finish()
}

// A process that calls more authorities than a page has cells for shares the
// circuits of those that it calls now. A cell gives way after ten minutes without
// calls, so this takes them, and is for a soak of an hour.
func TestCircuitsFollowWhatIsCalled(t *testing.T) {
	if d, err := time.ParseDuration(os.Getenv(soakEnv)); err != nil || d < time.Hour {
		t.Skip("it takes ten minutes: make soak SOAK=1h")
	}
	const before, now = 400, 300
	listener, err := net.Listen("tcp", "0.0.0.0:0") // all of 127.0.0.0/8 is this machine
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
	server.Start()
	t.Cleanup(server.Close)
	urls := make([]string, before+now)
	for i := range urls {
		urls[i] = fmt.Sprintf("http://127.1.%d.%d:%d", i/200, 1+i%200, listener.Addr().(*net.TCPAddr).Port)
	}
	h := newHost(t, fmt.Sprintf(circuitPolicies, "*", "host"))
	h.start()
	w := h.workers(1)[0]
	w.order(order{Attach: true, URL: urls[0], Also: urls[1:before], Load: 4, Pause: time.Millisecond})
	shared := func() map[string]bool {
		found := map[string]bool{}
		for _, c := range h.status().Circuits {
			found[c.Authority] = true
		}
		return found
	}
	h.eventually("the first are shared", func() bool { return len(shared()) == before })
	w.order(order{URL: urls[before], Also: urls[before+1:], Load: 4, Pause: 5 * time.Millisecond})
	h.eventually("as many as have room are shared", func() bool { return len(shared()) == page.Outcomes })
	elapse(10 * time.Minute)
	h.eventually("all that are called now are shared", func() bool {
		found := shared()
		return !slices.ContainsFunc(urls[before:], func(url string) bool { return !found[url] })
	})
	t.Logf("ten minutes after %d others were called, %d circuits are shared", before, len(shared()))
	w.finish()
}
