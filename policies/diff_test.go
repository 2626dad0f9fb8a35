package policies

import (
	"reflect"
	"slices"
	"testing"
)

func snapshotOf(t *testing.T, text string) *Snapshot {
	t.Helper()
	set, err := ParseJSON([]byte(text), "p.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDiff(t *testing.T) {
	old := snapshotOf(t, `{"version": 1, "upstreams": {
		"gone": {}, "same": {"bulkhead": {"max_concurrent": 3}},
		"pay": {"bulkhead": {"max_concurrent": 64, "max_waiting": 5}, "hedge": {}, "match": [{"host": "a"}]}}}`)
	now := snapshotOf(t, `{"version": 1, "upstreams": {
		"new": {}, "same": {"bulkhead": {"max_concurrent": 3}},
		"pay": {"bulkhead": {"max_concurrent": 20, "max_waiting": 5}, "timeout": {"attempt": "2s"}, "match": [{"host": "b"}]}}}`)
	changes, more := now.Diff(old, 100)
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	want := []string{
		"gone: removed",
		"new: added",
		`pay match: {"match":[{"host":"a"}]} -> {"match":[{"host":"b"}]}`,
		"pay timeout.attempt: 10s -> 2s",
		"pay bulkhead.max_concurrent: 64 -> 20",
		"pay hedge.delay: p95 -> off",
		"pay hedge.max_extra_load: 0.05 -> off",
	}
	if more || !slices.Equal(lines, want) {
		t.Errorf("changes\n%q\nwant\n%q", lines, want)
	}
	if again, _ := now.Diff(now, 100); len(again) != 0 {
		t.Errorf("a set differs from itself: %v", again)
	}
	if few, more := now.Diff(nil, 2); len(few) != 2 || !more {
		t.Errorf("at most 2 of 3: %v, %v", few, more)
	}
}

// What applies is the same exactly where Diff finds nothing: an agent sends what
// changes nothing to no process.
func TestDiffOfWhatApplies(t *testing.T) {
	old := snapshotOf(t, `{"version": 1, "upstreams": {"a": {"retry": {}, "propagation": {}, "fallback": {"static": {"status": 200}}}}}`)
	for _, c := range []struct {
		path, before, value string
		same                bool
	}{
		{"retry.max_attempts", "", "3", true},
		{"on_agent_loss", "", "hold", true},
		{"hedge.disabled", "", "true", true},
		{"hedge.max_extra_load", "", "0.05", false}, // turns it on
		{"retry.pause", "", "off", false},
		{"retry.statuses", "", "[]", false},
		{"timeout.attempt", "", "9.999999999s", false},
		{"circuit_breaker.failure_rate", "", "0.5000000000000001", false},
		{"propagation.attempt_header", "", "off", false},
		{"fallback.static.body", "", "off", false},
		{"fallback.static.body", "a\nb", `"a\nb"`, false},
	} {
		before, now := old, old
		for _, value := range []string{c.before, c.value} {
			before = now
			if value == "" {
				continue
			}
			set, err := now.Set().With("a", map[string]string{c.path: value}, "x")
			if err != nil {
				t.Fatal(c.path, err)
			}
			if now, err = Compile(set); err != nil {
				t.Fatal(c.path, err)
			}
		}
		changes, _ := now.Diff(before, 100)
		if same := reflect.DeepEqual(before.Named("a").Policy, now.Named("a").Policy); same != c.same || (len(changes) == 0) != c.same {
			t.Errorf("%s %q -> %q: the policies are the same: %v, and the changes %v; want the same: %v", c.path, c.before, c.value, same, changes, c.same)
		}
	}
}
