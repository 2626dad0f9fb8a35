package policyfile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// Text that is made to hurt a parser is refused, or read, in a time that has
// nothing to do with its shape. Unbounded, several of these took minutes or
// the whole stack.
func TestHostileShapes(t *testing.T) {
	const n = 100_000
	var keys, upstreams, flow strings.Builder
	flow.WriteString("{version: 1, upstreams: {")
	for i := range 40_000 {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
		fmt.Fprintf(&upstreams, "  k%d: {}\n", i)
		fmt.Fprintf(&flow, "k%d: {}, ", i)
	}
	for name, text := range map[string]string{
		"open brackets":     strings.Repeat("[", n),
		"open braces":       strings.Repeat("{", n),
		"closed brackets":   strings.Repeat("]", n),
		"commas":            "[" + strings.Repeat(",", n),
		"lists in lists":    strings.Repeat("- ", n),
		"question marks":    strings.Repeat("? ", n),
		"keys in a line":    strings.Repeat("a: ", n),
		"anchors":           strings.Repeat("&a ", n),
		"aliases":           "a: &a [x]\n" + strings.Repeat("b: [*a, *a]\n", n/8),
		"tags":              strings.Repeat("!!", n),
		"documents":         strings.Repeat("---\n", n),
		"open quote":        "a: \"" + strings.Repeat("x\n", n),
		"pipes":             strings.Repeat("|\n", n),
		"colons":            strings.Repeat(":", n),
		"keys at the top":   keys.String(),
		"keys in a section": "version: 1\nupstreams:\n" + upstreams.String(),
		"keys in brackets":  flow.String() + "}}",
		"a list":            "version: 1\nupstreams:\n  a:\n    match:\n" + strings.Repeat("    - host: a\n", n/8),
		"comments":          strings.Repeat("# x\n", n),
		"spaces":            strings.Repeat(" ", n),
		"staircase":         staircase(500),
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			_, err := Parse("hostile.yaml", []byte(text))
			if err == nil {
				t.Fatal("it was accepted")
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("refusing %d bytes took %v", len(text), took)
			}
		})
	}
}

func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// What is written in a file may be as long as sets may be.
func TestLongestSections(t *testing.T) {
	for name, entry := range map[string]string{"block": "  k%d: {}\n", "brackets": "k%d: {},\n"} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			text.WriteString("version: 1\nupstreams:\n")
			if name == "brackets" {
				text.Reset()
				text.WriteString("{version: 1, upstreams: {\n")
			}
			for i := range policies.MaxUpstreams {
				fmt.Fprintf(&text, entry, i)
			}
			if name == "brackets" {
				text.WriteString("}}\n")
			}
			set, err := Parse("long.yaml", []byte(text.String()))
			if err != nil {
				t.Fatalf("%.300v", err)
			}
			if len(set.Upstreams) != policies.MaxUpstreams {
				t.Errorf("read %d upstreams, want %d", len(set.Upstreams), policies.MaxUpstreams)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	text := "version: 1\n" + strings.Repeat("#", policies.MaxFileSize)
	for _, name := range []string{"large.yaml", "large.json"} {
		_, err := Parse(name, []byte(text))
		if err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
			t.Errorf("%s: got error %v, want one about 16 MiB", name, err)
		}
	}
}

// What would take gigabytes to read is refused before it is.
func TestTooMuch(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"commas.yaml": {"a: [" + strings.Repeat(",", maxMarks), "commas.yaml:1:4194307: there is too much in the file: more than 4194304 lines"},
		"stars.yaml":  {"a: {" + strings.Repeat("*", maxMarks), "stars.yaml:1:4194307: there is too much in the file"},
		"lines.yaml":  {strings.Repeat("#\n", maxMarks+1), "lines.yaml:4194305:2: there is too much in the file"},
		"values.json": {"[" + strings.Repeat("1,", 4_200_000) + "1]", "values.json:1:8388608: there is too much in the file: more than 4194304 values"},
	} {
		_, err := Parse(name, []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: the error is %.200v, want %s", name, err, c.want)
		}
	}
}

// Of sets that say everything of each upstream, the largest is not too much.
func TestNotTooMuch(t *testing.T) {
	const everything = `  %s:
    match: [{host: one.internal}, {host: "*.two.example.com", path: /v1/}, {host: three.internal, methods: [GET, POST, PUT]}]
    timeout: {attempt: 2s, total: 8s, idle: 30s}
    retry: {max_attempts: 3, backoff: {base: 50ms, max: 20s}, statuses: [429, 502, 503, 504]}
    bulkhead: {max_concurrent: 64, max_waiting: 128, max_wait: 100ms, max_share_per_uid: 0.5}
    circuit_breaker: {failure_rate: 0.5, min_requests: 20, window: 10s, open_for: 5s, max_open_for: 60s, half_open_requests: 1}
    rate_limit: {rate: 100/s, burst: 50, max_wait: 100ms}
    retry_budget: {capacity: 500}
    fallback: {static: {status: 200, content_type: application/json, body: "{}"}, stale: {max_stale: 1h, after: 1s}}
    idempotency: {header: Idempotency-Key, methods: [POST, PATCH]}
    propagation: {attempt_header: X-Attempt, deadline_header: X-Deadline, deadline_unit: ms}
`
	begin := "version: 1\nupstreams:\n"
	if _, err := Parse("one.yaml", fmt.Appendf(nil, begin+everything, "one")); err != nil {
		t.Error(err)
	}
	if wrong := checkText([]byte(begin+strings.Repeat(everything, policies.MaxUpstreams)), "all.yaml"); wrong != nil {
		t.Error(wrong)
	}
}
