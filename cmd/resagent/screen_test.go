package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
)

var update = flag.Bool("update", false, "write the screens in testdata/screens anew: look at them before they are kept")

func TestFit(t *testing.T) {
	for _, one := range []struct {
		text  string
		width int
		want  string
	}{
		{"short", 5, "short"}, {"longer", 5, "long…"}, {"longer", 1, "…"}, {"longer", 0, ""}, {"", 0, ""},
		{"世界", 4, "世界"}, {"世界", 3, "世…"}, {"世界", 2, "…"}, {"e\u0301\u0301a", 2, "e\u0301\u0301a"},
	} {
		if got := fit(one.text, one.width); got != one.want || columnsOf(got) > one.width {
			t.Errorf("fit(%q, %d) = %q, want %q", one.text, one.width, got, one.want)
		}
	}
}

func TestFold(t *testing.T) {
	for _, one := range []struct {
		text  string
		width int
		want  string
	}{
		{"one two three", 7, "one two|three"}, {"one two three", 0, "one two three"}, {"abcdefgh ij", 4, "abc…|ij"},
		{"", 5, ""}, {"  a   b  ", 5, "a b"}, {"世界 世界", 5, "世界|世界"},
	} {
		if got := strings.Join(fold(one.text, one.width), "|"); got != one.want {
			t.Errorf("fold(%q, %d) = %q, want %q", one.text, one.width, got, one.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for want, got := range map[string]string{
		"99999": short(99_999), "100k": short(100_000), "16M": short(1<<24 - 1), "0": rough(0), "0.1": rough(0.08), "9.9": rough(9.94), "10": rough(9.95),
		"5": rough(5), "<1%": percent(0.001), "1%": percent(0.0051), ">99%": percent(0.999), "100%": percent(1), "0%": percent(0),
		"0.0s": span(-time.Hour), "9.9s": span(9900 * time.Millisecond), "59s": span(59 * time.Second), "1m05s": span(65 * time.Second), "2h03m": span(123 * time.Minute), "3d": span(73 * time.Hour),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// shownAt is when the status of the screens in testdata was taken.
var shownAt = time.Date(2026, 11, 28, 12, 0, 10, 0, time.UTC)

// busyStatus has an upstream of every kind of trouble.
func busyStatus() agent.Status {
	ago := func(d time.Duration) time.Time { return shownAt.Add(-d) }
	calls := func(sent, unsent, attempts, fallback uint64) agent.CallStatus {
		c := agent.CallStatus{Calls: agent.Calls{Sent: sent, Unsent: unsent, Attempts: attempts, Fallback: fallback}}
		if x, ok := c.Calls.Amplification(); ok {
			c.Amplification = &x
		}
		if x, ok := c.Calls.FallbackShare(); ok {
			c.FallbackShare = &x
		}
		return c
	}
	recent := func(c agent.CallStatus) *agent.RecentCalls { return &agent.RecentCalls{Seconds: 9.8, CallStatus: c} }
	workers := func(n int, inUse int) (all []agent.ProcessStatus) {
		for i := range n {
			all = append(all, agent.ProcessStatus{PID: 4711 + i, UID: 61001 + i/3, Command: "worker", Attached: true, InUse: inUse, Calls: calls(100, 0, 105, 0)})
		}
		return all
	}
	liar := workers(3, 0)
	liar[1].Doubted, liar[2].Attached = true, false
	s := agent.Status{
		PID: 812, Started: ago(3*time.Hour + 12*time.Minute), Generation: 4, Named: 12, Ledger: "kept",
		Sessions: make([]agent.SessionStatus, 20),
		Refusals: []agent.Refusal{
			{What: "session", Reason: "user", Count: 37, Last: ago(4 * time.Second), UID: 61001, Text: "this user has 256 sessions already, which is the most: end some of its processes"},
			{What: "session", Reason: "hello", Count: 1, Last: ago(2 * time.Hour), UID: 61002, Text: "of the past"},
		},
		Upstreams: []agent.UpstreamStatus{
			{Name: "accounts", Breaker: "process", OnAgentLoss: "strict", Processes: 3, Counting: 2, Doubted: 1, Calls: calls(10, 0, 10, 0), Busiest: liar},
			{Name: "catalogue-of-the-northern-warehouses", Breaker: "host", OnAgentLoss: "hold", Processes: 8, Counting: 8, Calls: calls(80_000, 0, 88_000, 0), Recent: recent(calls(8000, 0, 11_840, 0)), Busiest: workers(5, 1)},
			{Name: "mail", Breaker: "off", Processes: 1, Calls: calls(0, 0, 0, 0), Busiest: workers(1, 0)},
			{Name: "payments", Breaker: "host", OnAgentLoss: "hold", Processes: 8, Counting: 8, Calls: calls(120_000, 9000, 121_000, 9100), Recent: recent(calls(29, 1500, 31, 1528)), Busiest: workers(5, 0)},
			{Name: "quotes", Breaker: "proportional", Processes: 2, Counting: 2, Calls: calls(50, 50, 60, 0), Recent: recent(calls(0, 0, 0, 0)), Busiest: workers(2, 0)},
			{Name: "rates", Breaker: "host", OnAgentLoss: "open", Processes: 4, Counting: 4, Calls: calls(100, 0, 100, 0), Recent: recent(calls(490, 0, 490, 1)), Busiest: workers(4, 0)},
			{Name: "search", Breaker: "host", OnAgentLoss: "hold", Processes: 20, Counting: 20, Calls: calls(100, 0, 100, 0), Recent: recent(calls(98_000, 0, 98_100, 0)), Busiest: workers(5, 4)},
		},
		Limits: []agent.LimitStatus{
			{Upstream: "catalogue-of-the-northern-warehouses", Kind: wire.Bulkhead, Limit: 64, Granted: 64, InUse: 64, Waiting: 31, Processes: 8},
			{Upstream: "catalogue-of-the-northern-warehouses", Kind: wire.RetryBudget, Limit: 500, Level: 3, Available: 1, Processes: 8},
			{Upstream: "payments", Kind: wire.Bulkhead, Limit: 20, Granted: 20, Available: 20, Processes: 8},
			{Upstream: "payments", Kind: wire.RateLimit, Limit: 50, Level: 50, PerSecond: 200, Processes: 8},
			{Upstream: "payments", Kind: wire.RetryBudget, Limit: 500, Level: 388, Processes: 8},
			{Upstream: "rates", Kind: wire.RateLimit, Limit: 50, Level: 0, PerSecond: 50, Waiting: 12, Processes: 4},
			{Upstream: "search", Kind: wire.Bulkhead, Limit: 128, Granted: 90, InUse: 80, Available: 10, Processes: 20},
		},
		Circuits: []agent.CircuitStatus{
			{Upstream: "catalogue-of-the-northern-warehouses", Authority: "http://a.north.internal", State: "half-open", Why: "its time is over: probes are let through", Since: ago(200 * time.Millisecond), Probes: 1, Callers: 8},
			{Upstream: "catalogue-of-the-northern-warehouses", Authority: "http://b.north.internal", State: "closed", Callers: 8},
			{Upstream: "payments", Authority: "http://payments.internal", State: "open", Why: "22 failures in a row, in 8 of the 8 processes that call", Since: ago(4 * time.Second), Until: shownAt.Add(3200 * time.Millisecond), Callers: 8},
			{Upstream: "rates", Authority: "http://rates.internal:8080", State: "closed", PausedUntil: shownAt.Add(30 * time.Second), PausedBy: 4712, Callers: 4, OwnTroubles: map[int]uint64{4713: 17}},
			{Upstream: "search", Authority: "https://search.internal", State: "open", Forced: &agent.Forced{To: "open"}, Callers: 20},
		},
		Overrides: []agent.Override{{ID: 3, Upstream: "payments", Values: map[string]string{"bulkhead.max_concurrent": "20"}, Reason: "they asked for less", UID: 61001, Since: ago(time.Minute), Until: shownAt.Add(time.Hour)}},
		Forced:    map[string]*agent.Forced{"search": {To: "open", Until: shownAt.Add(10 * time.Minute), By: "uid 61001", Reason: "moving their database"}},
	}
	return s
}

// TestScreens: status and top look as in testdata/screens, at 80 columns and
// at 200.
func TestScreens(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	const socket = "/run/resagent/agent.sock"
	s := busyStatus()
	all := map[string]func(width int) []line{
		"status":          func(w int) []line { return statusScreen(socket, s, "", shownAt, w, 0) },
		"status-payments": func(w int) []line { return statusScreen(socket, s, "payments", shownAt, w, 0) },
		"status-short":    func(w int) []line { return statusScreen(socket, s, "", shownAt, w, 14) },
	}
	topWith := func(keys string) func(int) []line {
		return func(w int) []line {
			m := newTopModel(socket, 2*time.Second)
			earlier := busyStatus()
			earlier.Upstreams[3].Busiest[0].Calls.Sent -= 20
			m.take(earlier, shownAt.Add(-2*time.Second))
			m.take(s, shownAt)
			typed, _ := keysOf(keys)
			for _, k := range typed {
				m.key(k)
			}
			return m.screen(w, 24, shownAt)
		}
	}
	all["top"] = topWith("")
	all["top-second"] = topWith("\x1b[B")
	all["top-processes"] = topWith("p")
	all["top-by-waiting"] = topWith("sss")
	all["top-filter"] = topWith("/rat")
	all["top-help"] = topWith("h")
	all["top-gone"] = func(w int) []line {
		m := newTopModel(socket, 2*time.Second)
		m.take(s, shownAt)
		m.fail(unreachable(socket, os.ErrNotExist), shownAt.Add(2*time.Second))
		return m.screen(w, 24, shownAt.Add(10*time.Second))
	}
	for name, screen := range all {
		for _, width := range []int{80, 200} {
			var b strings.Builder
			for _, l := range screen(width) {
				b.WriteString(l.fit(width).text(false) + "\n")
			}
			path := filepath.Join("testdata", "screens", fmt.Sprintf("%s-%d", name, width))
			if *update {
				if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("%s is now:\n%s\nand was:\n%s", path, &b, want)
			}
		}
	}
}

// Colour changes nothing of the text.
func TestColour(t *testing.T) {
	sgr := regexp.MustCompile(`\x1b\[\d+m`)
	m := newTopModel("s", time.Second)
	m.take(busyStatus(), shownAt)
	for _, l := range append(m.screen(200, 24, shownAt), statusScreen("s", busyStatus(), "", shownAt, 80, 0)...) {
		coloured := l.text(true)
		if got := strings.TrimRight(sgr.ReplaceAllString(coloured, ""), " "); got != l.text(false) {
			t.Errorf("%q, with colour %q", l.text(false), coloured)
		}
		if strings.Count(coloured, "\x1b[0m")*2 != strings.Count(coloured, "\x1b[") {
			t.Errorf("the colour does not end: %q", coloured)
		}
	}
	if got := (line{{"open", bad}, {" x", plain}}).text(true); got != "\x1b[31mopen\x1b[0m x" {
		t.Errorf("%q", got)
	}
}

// inspect finds what a screen must not have.
func inspect(t *testing.T, what string, lines []line, width, height int) {
	t.Helper()
	if height > 0 && len(lines) > height {
		t.Errorf("%s: %d rows in %d", what, len(lines), height)
	}
	for i, l := range lines {
		text := l.text(false)
		if n := columnsOf(text); width > 0 && n > width {
			t.Errorf("%s, row %d: %d columns in %d: %q", what, i, n, width, text)
		}
		if at := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); at >= 0 {
			t.Errorf("%s, row %d: a terminal would obey %q", what, i, text)
		}
	}
}

// Whatever is said of processes and upstreams, a screen has rows that fit, and
// nothing in them that a terminal obeys.
func FuzzScreens(f *testing.F) {
	busy, err := json.Marshal(busyStatus())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(busy, uint8(80), uint8(24), "sp/x")
	f.Add([]byte(`{"upstreams":[{"name":"a\u001b[2J\nb","circuit_breaker":"\u0007","busiest":[{"command":"\u001b]0;x\u0007","pid":-1}],"recent":{"seconds":-1}}],"circuits":[{"upstream":"a\u001b[2J\nb","authority":"http://\r\n\u202e","state":"open","why":"\u0000"}]}`), uint8(20), uint8(5), "p")
	f.Add([]byte(`{"upstreams":[{"name":"世界世界世界世界世界世界"}],"limits":[{"upstream":"世界世界世界世界世界世界","kind":"bulkhead","in_use":-5,"limit":-9223372036854775808}]}`), uint8(1), uint8(1), "\x1b[B\x1b[A")
	f.Fuzz(func(t *testing.T, text []byte, width, height uint8, typed string) {
		var s agent.Status
		if json.Unmarshal(text, &s) != nil {
			return
		}
		w, h := int(width), int(height)
		clipped := func(all []line) []line {
			for i := range all {
				all[i] = all[i].fit(w)
			}
			return all
		}
		inspect(t, "status", clipped(statusScreen("s", s, "", shownAt, w, h)), w, 0)
		for _, u := range s.Upstreams {
			inspect(t, "status of one", clipped(statusScreen("s", s, u.Name, shownAt, w, h)), w, 0)
		}
		m := newTopModel("s", time.Second)
		m.take(s, shownAt)
		m.take(s, shownAt.Add(time.Second))
		inspect(t, "top", m.screen(w, h, shownAt), w, h)
		keys, _ := keysOf(typed)
		for _, k := range keys[:min(len(keys), 20)] {
			m.key(k)
			inspect(t, "top after "+k, m.screen(w, h, shownAt), w, h)
		}
	})
}
