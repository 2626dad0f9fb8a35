//go:build linux

package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/resagent/resagent/policies"
)

// keptOverrides is what the file says, good for one boot of the host.
type keptOverrides struct {
	Boot      string     `json:"boot"`
	Overrides []Override `json:"overrides"`
}

// overridesPath is the file by which they outlive the agent, though not the
// host: beside the ledger.
func (a *Agent) overridesPath() string { return a.Ledger + ".overrides" }

// startOverrides lays what an earlier agent had over the files.
func (a *Agent) startOverrides(base *policies.Snapshot) *policies.Snapshot {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	var earlier keptOverrides
	data, err := os.ReadFile(a.overridesPath())
	if err == nil {
		err = json.Unmarshal(data, &earlier)
	}
	list := earlier.Overrides
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log().Error("overrides of an earlier agent cannot be read, and are not in force", "file", a.overridesPath(), "reason", err)
		list = nil
	}
	for _, o := range list {
		a.overrides.last = max(a.overrides.last, o.ID)
	}
	if len(list) > 0 && earlier.Boot != a.bootID {
		by := Event{Kind: OverrideDropped, Upstream: list[0].Upstream, Text: "from before the host was started: " + told(list)}
		a.events.add(by)
		a.logOrder(by, "ended", by.Text)
		list, a.overrides.stale = nil, true
	}
	list, over := split(list, time.Now())
	if len(over) > 0 {
		by := Event{Kind: OverrideExpired, Upstream: over[0].Upstream, Text: "while no agent was there: " + told(over)}
		a.events.add(by)
		a.logOrder(by, "ended", by.Text)
	}
	l := lay(base, list)
	a.tellDropped(l.dropped)
	if len(over)+len(l.dropped) > 0 {
		a.overrides.stale = true // until the ledger is this agent's
	}
	a.mu.Lock()
	a.overrides.base, a.overrides.list = base, l.list
	a.mu.Unlock()
	return l.snapshot
}

// saveOverrides writes them down for a later agent. With the reloading lock.
func (a *Agent) saveOverrides(list []Override) error {
	var data []byte
	var err error
	if len(list) > 0 {
		data, err = json.Marshal(keptOverrides{a.bootID, list})
	}
	if err == nil {
		err = keep(a.overridesPath(), data)
	}
	a.overrides.stale = err != nil
	a.tellKept("overrides", a.overridesPath(), data, &a.overrides.unkept, err)
	return err
}
