package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
)

func TestKeysOf(t *testing.T) {
	for _, one := range []struct{ typed, keys, rest string }{
		{"q", "q", ""}, {"sr ", "s,r, ", ""}, {"\x1b", "esc", ""}, {"\x1b[A\x1bOB", "up,down", ""},
		{"\x1b[5~\x1b[6~\x1b[H\x1b[F", "pageup,pagedown,home,end", ""},
		{"\x1b[", "", "\x1b["}, {"\x1b[1;5", "", "\x1b[1;5"}, {"\x1b[1;5A", "", ""}, {"\x1bx", "esc,x", ""},
		{"\r\n\x7f\b\x0c", "enter,enter,backspace,backspace,redraw", ""}, {"\x00\x01\t", "", ""},
		{"\xff\xfe", "", ""}, {"é世", "é,世", ""}, {"\x1b[\x01q", "q", ""}, {"\x1b[200~paste", "p,a,s,t,e", ""},
	} {
		keys, rest := keysOf(one.typed)
		if got := strings.Join(keys, ","); got != one.keys || rest != one.rest {
			t.Errorf("%q: %q and %q left, want %q and %q", one.typed, got, rest, one.keys, one.rest)
		}
	}
}

// Whatever is typed, and however it is cut in two, it is read to its end.
func FuzzKeysOf(f *testing.F) {
	f.Add("\x1b[A\x1bOBq\x1b[5~\xff", 3)
	f.Add("\x1b[1111111111111111111111111q", 2)
	f.Fuzz(func(t *testing.T, typed string, at int) {
		at = min(max(0, at), len(typed))
		_, rest := keysOf(typed[:at])
		keys, rest := keysOf(rest + typed[at:])
		if len(rest) >= longestKey {
			t.Errorf("%q is left of %q", rest, typed)
		}
		for _, k := range keys {
			if k == "" || len(k) == 1 && (k[0] < ' ' || k[0] == 0x7f) {
				t.Errorf("key %q of %q", k, typed)
			}
		}
	})
}

// shown is the names in the rows of top's upstreams.
func shown(m *topModel) (names string) {
	for _, v := range m.upstreamRows() {
		names += v.Name[:2] + " "
	}
	return strings.TrimSpace(names)
}

func TestTopKeys(t *testing.T) {
	for _, one := range []struct{ keys, rows, selected string }{
		{"", "se pa ca ra ac ma qu", ""},
		{"r", "qu ma ac ra ca pa se", ""},
		{"\x1b[D", "ac ca ma pa qu ra se", ""}, // by name
		{"\x1b[C", "se ca pa ra ac ma qu", ""}, // by what is in use
		{"ss", "ca ra se pa ac ma qu", ""},     // by who waits
		{"ssssss", "ca pa se ra ac ma qu", ""}, // by amplification
		{"\x1b[C\x1b[D", "se pa ca ra ac ma qu", ""},
		{"/rat\r", "ra", ""}, {"/RAT", "ra", ""}, {"/open\r", "se pa ca", ""}, {"/x\x1b", "se pa ca ra ac ma qu", ""},
		{"/rax\x7f\r", "ra", ""}, {"/q\rx", "qu", ""}, {"/nothing\r", "", ""},
		{"j", "se pa ca ra ac ma qu", "payments"}, {"jjk", "se pa ca ra ac ma qu", "payments"}, {"k", "se pa ca ra ac ma qu", "search"},
		{"\x1b[F", "se pa ca ra ac ma qu", "quotes"}, {"\x1b[F\x1b[Bj", "se pa ca ra ac ma qu", "quotes"},
		{"jr", "qu ma ac ra ca pa se", "payments"}, // it stays when rows move
	} {
		m := newTopModel("s", time.Second)
		m.take(busyStatus(), shownAt)
		keys, _ := keysOf(one.keys)
		for _, k := range keys {
			if m.key(k) {
				t.Errorf("%q ends it", one.keys)
			}
		}
		if got := shown(m); got != one.rows || m.selected != one.selected {
			t.Errorf("%q: %q with %q selected, want %q with %q", one.keys, got, m.selected, one.rows, one.selected)
		}
	}
	for typed, want := range map[string]bool{"q": true, "hq": true, "hh": false, "/q": false, "pq": true, " ": false} {
		m := newTopModel("s", time.Second)
		m.take(busyStatus(), shownAt)
		quit := false
		keys, _ := keysOf(typed)
		for _, k := range keys {
			quit = m.key(k)
		}
		if quit != want {
			t.Errorf("%q ends it: %v, want %v", typed, quit, want)
		}
	}
}

// How many calls a process makes is known from two answers of the same agent.
func TestCallsOfProcesses(t *testing.T) {
	status := func(started time.Time, calls uint64) agent.Status {
		return agent.Status{Started: started, Upstreams: []agent.UpstreamStatus{{Name: "u", Busiest: []agent.ProcessStatus{
			{PID: 1, Calls: agent.CallStatus{Calls: agent.Calls{Sent: calls}}}, {PID: 2}}}}}
	}
	m := newTopModel("s", time.Second)
	rates := func() (all []float64) {
		for _, p := range m.processRows() {
			if p.calls != nil {
				all = append(all, *p.calls)
			}
		}
		return all
	}
	m.take(status(shownAt, 100), shownAt)
	if got := rates(); got != nil {
		t.Errorf("%v after one answer", got)
	}
	m.take(status(shownAt, 150), shownAt.Add(2*time.Second))
	if got := rates(); !slices.Equal(got, []float64{25}) {
		t.Errorf("%v, want 25 of the one that counts", got)
	}
	m.take(status(shownAt.Add(time.Second), 160), shownAt.Add(3*time.Second))
	if got := rates(); got != nil {
		t.Errorf("%v from another agent's counts", got)
	}
}
