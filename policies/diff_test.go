package policies

import (
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
