package main

import (
	"strings"
	"testing"

	"github.com/resagent/resagent/agent"
)

// Events that are gone are told of where they were.
func TestMissedEventsAreTold(t *testing.T) {
	for missed, want := range map[uint64]string{
		0:   "",
		1:   "(1 event before this one is gone)\n",
		675: "(675 events before this one are gone)\n",
	} {
		var out strings.Builder
		printEvent(&out, agent.Event{Kind: agent.Reload, Missed: missed})
		if got := out.String(); !strings.HasPrefix(got, want) || strings.Contains(got, "gone") != (missed > 0) {
			t.Errorf("%d missed: %q, want %q first", missed, got, want)
		}
	}
}
