package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// againstLive asks the agent what is in force and what was used, and judges a
// set by it. Overrides stay, as they do at a reload.
func againstLive(ctx context.Context, socket string, now *policies.Snapshot) (tryout, error) {
	var (
		set    policies.Set
		status agent.Status
		seen   agent.History
	)
	for _, one := range []struct {
		target string
		into   any
	}{{"/v1/policies", &set}, {"/v1/status", &status}, {"/v1/history", &seen}} {
		body, err := call(ctx, socket, "GET", one.target)
		if err != nil {
			return tryout{}, err
		}
		if err := json.Unmarshal(body, one.into); err != nil {
			return tryout{}, fmt.Errorf("the agent's answer to %s is not understood: %w; is it of another version?", one.target, err)
		}
	}
	old, err := policies.Compile(&set)
	if err != nil {
		return tryout{}, fmt.Errorf("the agent's policies are not understood: %w; is it of another version?", err)
	}
	for _, o := range status.Overrides {
		laid, err := now.Set().With(o.Upstream, o.Values, "override")
		if err != nil {
			continue // a reload drops it too
		}
		if next, err := policies.Compile(laid); err == nil {
			now = next
		}
	}
	return tryOut(old, now, seen), nil
}

// print shows a tryout to people.
func (t tryout) print(w io.Writer) {
	seen := time.Duration(t.Seconds) * time.Second
	if len(t.Limits) == 0 {
		fmt.Fprint(w, "\nNo limit of the host would change.\n")
	} else {
		fmt.Fprintf(w, "\nThe last %s, as the agent saw them:\n\n", seen)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprint(table, "UPSTREAM\tLIMIT\tOLD -> NEW\tMOST SEEN\tABOVE THE NEW\tWOULD HAVE WAITED OR BEEN REFUSED\n")
		for _, l := range t.Limits {
			fmt.Fprintf(table, "%s\t%s\t%s -> %s\t%s\n", printable(l.Upstream), l.Kind, l.Old, l.New, l.verdict(t.Seconds))
		}
		table.Flush()
	}
	if len(t.NotJudged) > 0 {
		fmt.Fprint(w, "\nNot judged, since the agent sees what limits are used for and not the calls:\n")
		for _, c := range t.NotJudged {
			fmt.Fprintf(w, "  %s\n", printable(c.String()))
		}
	}
	if len(t.Limits) > 0 {
		fmt.Fprint(w, `
A rate is written with its burst, as in 200/s+50.

What is not known: whom the limits of now refused, so where callers waited more was
asked for than was seen; peaks between two looks, ten a second while a limit is used
and 500 while anyone waits; how long calls took, and so whether one beyond a limit
would have had its turn within max_wait.
`)
	}
}

// verdict is the last three columns.
func (l trial) verdict(seconds int) string {
	if l.NotKnown != "" {
		return "not known: " + l.NotKnown
	}
	most := fmt.Sprintf("%d in use", l.Peak)
	affected := fmt.Sprintf("%s at the worst moment", count(l.Affected, "caller", "callers"))
	switch l.Kind {
	case wire.RateLimit:
		most, affected = fmt.Sprintf("%d in a second", l.Peak), "about "+count(l.Affected, "call", "calls")
	case wire.RetryBudget:
		most, affected = fmt.Sprintf("%s gone", count(l.Peak, "token", "tokens")), count(l.Affected, "retry", "retries")+" at the worst moment"
	}
	if l.PeakWaiting > 0 {
		most += fmt.Sprintf(", %d waiting (in %d s)", l.PeakWaiting, l.Waited)
	}
	if l.Peak+l.PeakWaiting == 0 {
		most = "not used"
	}
	if l.Affected == 0 {
		affected = "none seen"
	}
	return fmt.Sprintf("%s\t%d of %d s\t%s", most, l.Above, seconds, affected)
}
