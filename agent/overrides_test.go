//go:build linux

package agent

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// deskOf is an agent of the upstream a, which serves nobody and is told by its
// methods what an operator wants, with its log.
func deskOf(t *testing.T) (*town, *bytes.Buffer) {
	t.Helper()
	w := emptyTown(t, 0)
	log := new(bytes.Buffer)
	w.a.Logger = slog.New(slog.NewTextHandler(log, nil))
	w.a.snapshot = w.a.startOverrides(w.a.snapshot)
	w.a.expireOverrides()
	t.Cleanup(w.a.hangUp)
	return w, log
}

// layOne lays one override, of values as KEY=VALUE.
func layOne(t *testing.T, a *Agent, lasts time.Duration, values ...string) Laid {
	t.Helper()
	o := Override{Upstream: "a", Values: map[string]string{}, Reason: "r", UID: 7, PID: 77}
	for _, v := range values {
		key, value, _ := strings.Cut(v, "=")
		o.Values[key] = value
	}
	done, err := a.override(o, lasts)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// fillUp keeps the file beside the ledger from being written, as a full file
// system does; empty lets it be written again.
func fillUp(t *testing.T, path string) (empty func()) {
	t.Helper()
	if err := os.MkdirAll(path+".new/full", 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(path + ".new"); err != nil {
			t.Fatal(err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Where nothing can be written an override ends at its time all the same, one
// line says so, and the file follows when it can.
func TestOverridesEndOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := deskOf(t)
		layOne(t, w.a, time.Minute, "timeout.attempt=1s")
		layOne(t, w.a, time.Hour, "timeout.attempt=2s")
		empty := fillUp(t, w.a.overridesPath())
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if list := w.a.Overrides(); len(list) != 1 || list[0].ID != 2 {
			t.Errorf("after the time of the first there are %+v, want the second", list)
		}
		if _, err := w.a.override(Override{Upstream: "a", Values: map[string]string{"timeout.attempt": "3s"}, Reason: "r"}, time.Hour); err == nil || len(w.a.Overrides()) != 1 {
			t.Errorf("one that cannot be written: %v, and there are %d", err, len(w.a.Overrides()))
		}
		empty()
		time.Sleep(keepAgain)
		synctest.Wait()
		text, err := os.ReadFile(w.a.overridesPath())
		if err != nil || strings.Contains(string(text), `"id":1,`) || !strings.Contains(string(text), `"id":2,`) {
			t.Errorf("with room again the file says %s, %v", text, err)
		}
		if bad, good := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "overrides are kept for a later agent again"); bad != 1 || good != 1 {
			t.Errorf("%d errors and %d times that it is well again, want one of each:\n%s", bad, good, log)
		}
	})
}

// Where nothing can be written what an operator clears is cleared, with a
// warning of what a restart would bring back; and without one if the file can
// go, which takes no space.
func TestClearingOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := deskOf(t)
		layOne(t, w.a, time.Hour, "timeout.attempt=1s")
		layOne(t, w.a, 2*time.Hour, "timeout.attempt=2s")
		w.a.overrides.list[0].Upstream = "b"
		fillUp(t, w.a.overridesPath())
		done, err := w.a.clear("a", Event{})
		if err != nil || len(done.Cleared) != 1 || len(w.a.Overrides()) != 1 {
			t.Fatalf("cleared %+v, %v; left %+v", done, err, w.a.Overrides())
		}
		until := done.Cleared[0].Until.Format(time.RFC3339)
		if len(done.Warnings) != 1 || !strings.Contains(done.Warnings[0], "a restart of the agent before "+until) {
			t.Errorf("warnings %q, want that a restart before %s brings it back", done.Warnings, until)
		}
		done, err = w.a.clear("", Event{})
		if err != nil || len(done.Cleared) != 1 || len(done.Warnings) != 0 || exists(w.a.overridesPath()) {
			t.Errorf("the last one: %+v, %v, want no warning and no file", done, err)
		}
	})
}

// Where nothing can be written an order is in force, with a warning; one line
// says so, and the file follows when it can.
func TestOrdersOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := deskOf(t)
		order := func(to string) []string {
			t.Helper()
			warnings, err := w.a.Force("a", Forced{To: to, By: "uid 7", Reason: "r", Until: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			return warnings
		}
		empty := fillUp(t, w.a.circuitsFile())
		if got := order("open"); len(got) != 1 || !strings.Contains(got[0], "a restart of the agent would end it") || w.a.forcedNow()["a"] == nil {
			t.Errorf("warnings %q, in force %v", got, w.a.forcedNow())
		}
		w.pass(time.Minute)
		empty()
		w.pass(keepAgain)
		if text, _ := os.ReadFile(w.a.circuitsFile()); !strings.Contains(string(text), `"to":"open"`) {
			t.Errorf("with room again the file says %q", text)
		}
		if bad, good := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "circuits are kept for a later agent again"); bad != 1 || good != 1 {
			t.Errorf("%d errors and %d times that it is well again, want one of each:\n%s", bad, good, log)
		}
		w.a.circuits.forced["b"] = w.a.circuits.forced["a"]
		fillUp(t, w.a.circuitsFile())
		if got := order("auto"); len(got) != 1 || !strings.Contains(got[0], "would bring the order back") {
			t.Errorf("warnings %q of an end that is not written down", got)
		}
		delete(w.a.circuits.forced, "b")
		for range 3 {
			order("open")
			if got := order("auto"); len(got) != 0 || exists(w.a.circuitsFile()) {
				t.Errorf("warnings %q where the file can go", got)
			}
		}
		if bad := strings.Count(log.String(), "level=ERROR"); bad != 2 {
			t.Errorf("%d errors, want one each time that the disk got full:\n%s", bad, log)
		}
	})
}

// Who lays an override that does nothing, or what check would warn of, is told;
// not of what was so before.
func TestOverridesWarn(t *testing.T) {
	w, _ := deskOf(t)
	w.a.overrides.base = compiled(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"a": {
		Match:    []policies.Match{{Host: "a"}},
		Bulkhead: &policies.Bulkhead{Disabled: true},
		Timeout:  &policies.Timeout{Attempt: time.Second, Total: 8 * time.Second},
	}}})
	w.a.snapshot = w.a.overrides.base
	for _, c := range []struct {
		value string
		want  []string
	}{
		{"bulkhead.max_concurrent=3", []string{"bulkhead is disabled"}},
		{"timeout.attempt=20s", []string{"upstreams.a.timeout.attempt: "}},
		{"timeout.attempt=20s", []string{"changes nothing"}},
		{"timeout.attempt=2s", nil},
	} {
		got := layOne(t, w.a, time.Hour, c.value).Warnings
		ok := len(got) == len(c.want)
		for i := range c.want {
			ok = ok && strings.Contains(got[i], c.want[i])
		}
		if !ok {
			t.Errorf("%s warns %q, want %q", c.value, got, c.want)
		}
	}
}

// An override to what holds already is sent to nobody, and nor is its end; it is
// kept all the same, and holds when the files say otherwise.
func TestOverrideToWhatHoldsAlready(t *testing.T) {
	w, _ := deskOf(t)
	files := func(attempt time.Duration) *policies.Snapshot {
		return compiled(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"a": {
			Match: []policies.Match{{Host: "a"}}, Timeout: &policies.Timeout{Attempt: attempt}, Retry: &policies.Retry{}}}})
	}
	w.a.Load = func() (*policies.Snapshot, error) { return files(2 * time.Second), nil }
	if _, err := w.a.Reload(); err != nil {
		t.Fatal(err)
	}
	before := w.a.generation
	layOne(t, w.a, time.Hour, "timeout.attempt=2s", "retry.max_attempts=3") // one written, one built in
	if list := w.a.Overrides(); len(list) != 1 || w.a.generation != before {
		t.Errorf("there are %d overrides, and the generation went from %d to %d; want one, and no new set", len(list), before, w.a.generation)
	}
	w.a.Load = func() (*policies.Snapshot, error) { return files(3 * time.Second), nil }
	if _, err := w.a.Reload(); err != nil {
		t.Fatal(err)
	}
	if p := w.a.snapshot.Named("a").Policy; p.Timeout.Attempt != 2*time.Second {
		t.Errorf("after the files changed an attempt has %v, want the 2s of the override", p.Timeout.Attempt)
	}
	before = w.a.generation
	layOne(t, w.a, time.Hour, "timeout.attempt=3s")
	if w.a.generation != before+1 {
		t.Errorf("a change raised the generation from %d to %d", before, w.a.generation)
	}
	if _, err := w.a.clear("a", Event{}); err != nil || w.a.generation != before+1 || len(w.a.Overrides()) != 0 {
		t.Errorf("cleared, where the files say the same: %v, generation %d, want %d", err, w.a.generation, before+1)
	}
}

// An override that ended while no agent was there has its event, is gone from
// the file, and its number is not given again.
func TestOverrideEndsWithoutAnAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := deskOf(t)
		layOne(t, w.a, time.Hour, "timeout.attempt=1s")
		layOne(t, w.a, time.Minute, "timeout.attempt=2s")
		w.a.hangUp() // killed
		time.Sleep(2 * time.Minute)
		next, log := &Agent{Ledger: w.a.Ledger, alloc: w.a.alloc, control: w.a.control, circuits: newCircuits()}, new(bytes.Buffer)
		next.Logger = slog.New(slog.NewTextHandler(log, nil))
		t.Cleanup(next.hangUp)
		before, err := os.ReadFile(w.a.overridesPath())
		if err != nil {
			t.Fatal(err)
		}
		next.snapshot = next.startOverrides(w.a.overrides.base)
		if text, _ := os.ReadFile(next.overridesPath()); string(text) != string(before) {
			t.Error("the file was written before the ledger is this agent's")
		}
		next.expireOverrides()
		said, _ := next.events.after(0)
		if len(said) != 1 || said[0].Kind != OverrideExpired || !strings.Contains(said[0].Text, "while no agent was there: override 2 of uid 7") || strings.Count(log.String(), "override-expired") != 1 {
			t.Errorf("events %+v and the log %s, want one of the end", said, log)
		}
		if text, err := os.ReadFile(next.overridesPath()); err != nil || strings.Contains(string(text), `"id":2,`) || !strings.Contains(string(text), `"id":1,`) {
			t.Errorf("the file says %s, %v", text, err)
		}
		if o := layOne(t, next, time.Hour, "timeout.attempt=3s"); o.ID != 3 {
			t.Errorf("the next is number %d, want 3", o.ID)
		}
	})
}

// What an operator ordered is good for a restart of the agent, not of the host:
// in another boot it is not in force, an event says so, and the files go.
func TestOrdersDoNotOutliveTheHost(t *testing.T) {
	for boot, lives := range map[string]bool{"one": true, "other": false} {
		w, _ := deskOf(t)
		w.a.bootID = "one"
		layOne(t, w.a, time.Hour, "timeout.attempt=1s")
		if _, err := w.a.Force("a", Forced{To: "open", By: "uid 7", Reason: "r", Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		w.a.hangUp() // killed
		next := &Agent{Ledger: w.a.Ledger, alloc: w.a.alloc, control: w.a.control, circuits: newCircuits(), boot: w.a.boot, since: w.a.since, bootID: boot}
		t.Cleanup(next.hangUp)
		next.snapshot = next.startOverrides(w.a.overrides.base)
		next.restoreCircuits(next.now())
		next.expireOverrides()
		next.tickCircuits(next.now())
		if got := len(next.Overrides()) + len(next.forcedNow()); lives != (got == 2) || !lives && got > 0 {
			t.Errorf("in boot %s %d of the two are in force", boot, got)
		}
		said, _ := next.events.after(0)
		if lives != (len(said) == 0) || !lives && (len(said) != 2 || said[0].Kind != OverrideDropped || said[1].Kind != CircuitForced) {
			t.Errorf("in boot %s the events are %+v", boot, said)
		}
		if !lives && (exists(next.overridesPath()) || exists(next.circuitsFile())) {
			t.Error("the files of another boot are still there")
		}
	}
}
