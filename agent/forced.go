//go:build linux

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

// mostForced is the longest time for which a circuit may be forced. One that
// is to stay for good belongs into a policy file.
const mostForced = 7 * 24 * time.Hour

// Force opens or closes all circuits of an upstream, those to come included,
// until f.Until; or gives them back to the evidence, where f.To is "auto".
// Processes follow at their next call. It survives a restart of the agent, and
// ends by itself; a warning says where it cannot be written down for that.
// Errors say what is wrong with f; nothing is changed then.
func (a *Agent) Force(upstream string, f Forced) (warnings []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.alloc == nil || a.down:
		return nil, errors.New("the agent does not run")
	case a.snapshot.Named(upstream) == nil:
		return nil, fmt.Errorf("%w: %q", errNoUpstream, upstream)
	case circuitSettings(a.snapshot, upstream) == nil:
		return nil, fmt.Errorf("the upstream %q has no circuit of the host: its circuit_breaker is disabled, or of scope process", upstream)
	}
	now := a.now()
	if f.To == "auto" {
		was := a.circuits.forced[upstream]
		if was == nil || now >= was.until {
			return nil, fmt.Errorf("no circuit of %q is forced", upstream)
		}
		delete(a.circuits.forced, upstream)
		for _, c := range a.circuits.all {
			if c.key.upstream == upstream && c.forced != nil {
				c.release(now, "back to automatic, by "+f.By)
				a.plan(c)
				a.dropCircuit(c)
			}
		}
		if err := a.keepCircuits(); err != nil {
			warnings = append(warnings, fmt.Sprintf("automatic again, but a restart of the agent before %s would bring the order back: %v", was.Until.Format(time.RFC3339), err))
		}
		a.rouseLoop()
		return warnings, nil
	}
	left := time.Until(f.Until)
	if f.To != "open" && f.To != "closed" {
		return nil, fmt.Errorf("a circuit cannot be forced to be %q: write open, closed or auto", f.To)
	}
	if left <= 0 {
		return nil, errors.New("a circuit cannot be forced until a time that is past: write a time above zero, such as 30m")
	}
	if left > mostForced {
		return nil, fmt.Errorf("a circuit is forced for a time of up to %v: for longer, change its policy", mostForced)
	}
	f.until = now + left
	a.circuits.forced[upstream] = &f
	for _, c := range a.circuits.all {
		if c.key.upstream == upstream {
			c.force(&f, now)
			a.plan(c)
		}
	}
	if err := a.keepCircuits(); err != nil {
		warnings = append(warnings, fmt.Sprintf("in force, but a restart of the agent would end it: %v", err))
	}
	a.rouseLoop()
	return warnings, nil
}

// Ordered is the answer to an order.
type Ordered struct {
	Forced
	Warnings []string `json:"warnings,omitempty"` // as of [Consequences]
}

const noCircuit = "the policies have no such circuit any more"

// orderEnded takes what a person decided out of force, and says so. The
// circuits go back to the evidence by themselves, where there are any.
func (a *Agent) orderEnded(upstream string, f *Forced, why string) {
	delete(a.circuits.forced, upstream)
	a.circuits.changed = true
	a.events.add(Event{Kind: CircuitForced, Upstream: upstream, Text: fmt.Sprintf("auto: the order of %s to have it %s (%s) ended: %s", f.By, f.To, f.Reason, why)})
	a.log().Info("circuit order ended", "upstream", upstream, "to", f.To, "by", f.By, "reason", why)
}

// forcedNow gives what persons decided and is still in force.
func (a *Agent) forcedNow() map[string]*Forced {
	all := map[string]*Forced{}
	for upstream, f := range a.circuits.forced {
		if a.now() < f.until {
			all[upstream] = f
		}
	}
	return all
}

var errNoUpstream = errors.New("no upstream of this name")

// breakers is POST /v1/breakers?upstream=U&to=open|closed|auto&for=30m&reason=R.
func (a *Agent) breakers(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := Forced{To: q.Get("to"), Reason: q.Get("reason")}
	uid, pid := asker(r)
	f.By = fmt.Sprintf("uid %d", uid)
	if f.To != "auto" {
		d, err := time.ParseDuration(q.Get("for"))
		if err != nil {
			problem(w, http.StatusBadRequest, wrongQuery, "no time to force a circuit for", "for: write a duration such as 30m")
			return
		}
		f.Until = time.Now().Add(d)
	}
	if len(f.Reason) > 500 {
		problem(w, http.StatusBadRequest, wrongQuery, "the reason is too long", "reason: write at most 500 bytes")
		return
	}
	if !oneLine(f.Reason) {
		problem(w, http.StatusBadRequest, wrongQuery, "the reason has control characters, such as a line break", "reason: write it as one line of text")
		return
	}
	upstream := q.Get("upstream")
	warnings, err := a.Force(upstream, f)
	switch {
	case errors.Is(err, errNoUpstream):
		a.unknownUpstream(w, upstream)
		return
	case err != nil:
		problem(w, http.StatusUnprocessableEntity, circuitAsItWas, "the circuit is as it was", err.Error())
		return
	}
	by := Event{Kind: CircuitForced, Upstream: upstream, UID: &uid, PID: pid, Text: f.To + forTime(f) + ": " + f.Reason}
	a.events.add(by)
	a.logOrder(by, "order", f.To+forTime(f), "reason", f.Reason)
	reply(w, Ordered{f, warnings})
}

func forTime(f Forced) string {
	if f.Until.IsZero() {
		return ""
	}
	return " until " + f.Until.Format(time.RFC3339)
}

// kept is what a later agent is told of the circuits: a file beside the
// ledger; the circuits are good only together with it.
type kept struct {
	Boot     string             `json:"boot"` // of the host, for which the orders are good
	Ledger   string             `json:"ledger"`
	Forced   map[string]*Forced `json:"forced,omitempty"`
	Circuits []keptCircuit      `json:"circuits,omitempty"`
}

type keptCircuit struct {
	Upstream  string        `json:"upstream"`
	Authority string        `json:"authority"`
	UID       int           `json:"uid"`
	Until     time.Duration `json:"until"` // since boot
	Opens     int           `json:"opens"`
	Cause     string        `json:"cause,omitempty"`
}

func (a *Agent) circuitsFile() string { return a.Ledger + ".circuits" }

// keepCircuits writes the file, once for all that changed in a turn of the
// loop. Without it an agent's restart closes what is open; so a failure is only
// told, and the loop tries again.
func (a *Agent) keepCircuits() error {
	a.circuits.changed = false
	k := kept{Boot: a.bootID, Ledger: a.alloc.ledger.id, Forced: a.circuits.forced}
	for _, c := range a.circuits.all {
		if s := c.word.State(); c.forced == nil && (s == page.CircuitOpen || s == page.CircuitHalfOpen) {
			k.Circuits = append(k.Circuits, keptCircuit{c.key.upstream, c.key.authority, a.circuits.starts[c], c.word.Until(), c.opens, c.cause})
		}
	}
	var text []byte
	var err error
	if len(k.Forced)+len(k.Circuits) > 0 {
		text, err = json.Marshal(k)
	}
	if err == nil {
		err = keep(a.circuitsFile(), text)
	}
	a.tellKept("circuits", a.circuitsFile(), text, &a.circuits.unkept, err)
	if err != nil {
		a.circuits.changed, a.circuits.keptRest = true, a.now()+keepAgain
	}
	return err
}

// restoreCircuits takes in what an earlier agent left. What cannot be read, or
// belongs to another ledger, is left out: a circuit then begins closed.
func (a *Agent) restoreCircuits(now time.Duration) {
	text, err := os.ReadFile(a.circuitsFile())
	if err != nil {
		return
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		a.log().Warn("the circuits of an earlier agent cannot be read: all begin closed", "reason", err)
		return
	}
	for upstream, f := range k.Forced {
		if f == nil || f.To != "open" && f.To != "closed" {
			continue
		}
		switch left := time.Until(f.Until); {
		case circuitSettings(a.snapshot, upstream) == nil:
			a.orderEnded(upstream, f, noCircuit)
		case k.Boot != a.bootID:
			a.orderEnded(upstream, f, "it is from before the host was started")
		case left <= 0:
			a.orderEnded(upstream, f, "its time ended while no agent was there")
		default:
			f.until = now + min(left, mostForced)
			a.circuits.forced[upstream] = f
		}
	}
	if k.Ledger != a.alloc.ledger.id {
		return
	}
	for _, one := range k.Circuits {
		c, _ := a.circuit(circuitKey{one.Upstream, one.Authority}, one.UID)
		if c == nil || c.forced != nil {
			continue
		}
		if c.set.Mode == policies.ModeProportional || one.Until > now+2*c.set.MaxOpenFor+2*c.set.OpenFor {
			a.dropCircuit(c)
			continue
		}
		c.opens, c.cause = min(max(0, one.Opens), 64), one.Cause
		why := "as an earlier agent left it"
		if c.cause != "" {
			why += "; at first: " + c.cause
		}
		c.change(page.CircuitOpen, max(one.Until, now), now, why)
		c.next = max(one.Until, now)
		a.plan(c)
	}
}
