//go:build linux

package agent

import (
	"testing"
	"time"

	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

// The longest pause stands, none exceeds the policy's bound, and one event
// tells of a pause however often it is made longer.
func TestPauseIsBounded(t *testing.T) {
	for how, most := range map[policies.Pause]time.Duration{policies.PauseRetries: 20 * time.Second, policies.PauseOff: 0} {
		a, c := pausable(t, how)
		p := &process{id: identity{uid: 7, pid: 42}}
		for _, one := range []struct{ said, want time.Duration }{
			{0, 0}, {-time.Hour, 0}, {10 * time.Second, 10 * time.Second}, {time.Second, 10 * time.Second}, {time.Hour, 20 * time.Second},
		} {
			a.pause(c, p, one.said, time.Hour)
			got := max(0, a.control.Pause(c.entry)-time.Hour)
			if want := min(one.want, most); got != want {
				t.Errorf("%s: after %v was said the pause is %v, want %v", how, one.said, got, want)
			}
		}
		if n := a.events.count()[CircuitPaused]; n != min(1, uint64(most)) {
			t.Errorf("%s: %d events", how, n)
		}
	}
}

// pausable is an agent that does not run, with one circuit.
func pausable(t *testing.T, how policies.Pause) (*Agent, *circuit) {
	snapshot, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
		"a": {Retry: &policies.Retry{Pause: how, MaxRetryAfter: 20 * time.Second}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	control, file, err := page.NewControl()
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	return &Agent{control: control, snapshot: snapshot}, &circuit{key: circuitKey{"a", "http://a"}, entry: 3}
}
