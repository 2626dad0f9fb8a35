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

// Where others call, one user's word holds them back for max_retry_after at a
// time, and not again until as long has passed; another user's word counts
// meanwhile. Where nobody else calls, and for retries, nothing is limited.
func TestOneUserPausesOthersForPartOfTheTime(t *testing.T) {
	for _, one := range []struct {
		how         policies.Pause
		other       bool // another user calls too
		least, most time.Duration
	}{
		{policies.PauseAll, true, 30 * time.Second, 40 * time.Second},
		{policies.PauseAll, false, 60 * time.Second, 60 * time.Second},
		{policies.PauseRetries, true, 60 * time.Second, 60 * time.Second},
	} {
		a, c := pausable(t, one.how)
		liar, other := &process{id: identity{uid: 7}}, &process{id: identity{uid: 8}}
		c.callers = map[*process]*caller{liar: {uid: 7}}
		if one.other {
			c.callers[other] = &caller{uid: 8}
		}
		var paused time.Duration
		now := time.Hour
		for ; now < time.Hour+time.Minute; now += 100 * time.Millisecond {
			a.pause(c, liar, time.Hour, now)
			if a.control.Pause(c.entry) > now {
				paused += 100 * time.Millisecond
			}
		}
		if paused < one.least || paused > one.most {
			t.Errorf("%s, another user calls %v: paused for %v of a minute, want %v to %v", one.how, one.other, paused, one.least, one.most)
		}
		if !one.other || one.how != policies.PauseAll {
			continue
		}
		for a.control.Pause(c.entry) > now {
			now += 100 * time.Millisecond
		}
		if a.pause(c, liar, time.Second, now); a.control.Pause(c.entry) > now {
			t.Error("paused again at once by the same user")
		}
		if a.pause(c, other, time.Second, now); a.control.Pause(c.entry) != now+time.Second {
			t.Error("another user's word does not count")
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
