package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/resagent/resagent/agent"
)

// printConsequences shows, on standard error, what a change did besides what
// was asked for: the orders of others may have ended with it.
func printConsequences(c agent.Consequences) {
	printWarnings(c.Warnings)
	for _, o := range c.DroppedOverrides {
		printWarnings([]string{"an override does not fit any more, and is dropped: " + overrideText(o.Override) + "\n" + o.Why})
	}
	for _, upstream := range slices.Sorted(maps.Keys(c.EndedOrders)) {
		f := c.EndedOrders[upstream]
		printWarnings([]string{fmt.Sprintf("an order ended: %s was forced %s until %s, by %s: %s",
			upstream, f.To, f.Until.Local().Format(time.RFC3339), f.By, f.Reason)})
	}
}

func printWarnings(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, "warning: "+printable(w))
	}
}
