package policies

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestExplain(t *testing.T) {
	set, err := ParseJSON([]byte(`{"version": 1,
"defaults": {
 "retry_budget": {"disabled": true},
 "bulkhead": {"max_concurrent": 5}},
"upstreams": {
 "a.b": {
  "match": [{"host": "one"}, {"host": "two", "path": "/x"}],
  "circuit_breaker": {"disabled": true},
  "bulkhead": {"max_waiting": 0},
  "fallback": {"static": {"status": 503}}}}}`), "f")
	if err != nil {
		t.Fatal(err)
	}
	snapshot := mustCompile(t, set)
	e := snapshot.Explain("GET", &url.URL{Scheme: "http", Host: "two", Path: "/x/y"})
	if e.Upstream != "a.b" || e.Match == nil || e.Match.Host != "two" || e.MatchIndex != 1 || e.MatchPosition.String() != "f:7:39" {
		t.Errorf("it explains %+v", e)
	}
	got := map[string][2]string{}
	for _, v := range e.Values {
		got[v.Path] = [2]string{v.Value, v.From()}
	}
	for path, want := range map[string][2]string{
		"retry_budget":            {"off", "defaults (f:3:31)"},
		"circuit_breaker":         {"off", "f:8:35"},
		"bulkhead.max_concurrent": {"5", "defaults (f:4:33)"},
		"bulkhead.max_waiting":    {"none", "f:9:31"},
		"bulkhead.max_wait":       {"100ms", "built-in"},
		"rate_limit":              {"off", "built-in"},
		"fallback.stale":          {"off", "built-in"},
		"fallback.static.status":  {"503", "f:10:37"},
		"on_agent_loss":           {"hold", "built-in"},
	} {
		if got[path] != want {
			t.Errorf("%s is %v, want %v", path, got[path], want)
		}
	}
	if _, there := got["circuit_breaker.window"]; there {
		t.Error("a value of a section that is off is explained")
	}

	e = snapshot.Explain("GET", &url.URL{Host: "elsewhere"})
	if e.Upstream != "" || e.Match != nil || e.Values[0].Value != "1m" || e.Values[0].From() != "built-in" {
		t.Errorf("of a request without upstream it says %+v", e)
	}
	var none *Snapshot
	if e := none.ExplainNamed("a"); e.Upstream != "" || len(e.Values) == 0 {
		t.Errorf("of no set it says %+v", e)
	}
}

// A whole page is shown in one line, and not whole; that it changed is seen all the same.
func TestLongTextIsCut(t *testing.T) {
	with := func(body string) *Snapshot {
		s, err := Compile(&Set{Version: 1, Upstreams: map[string]Policy{"a": {Fallback: &Fallback{Static: &Static{Body: body}}}}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	page := strings.Repeat("€", 1000)
	changes, _ := with(page+".").Diff(with(page+"!"), 10)
	if len(changes) != 1 || changes[0].Old == changes[0].New || !strings.Contains(changes[0].New, "(3001 bytes, sha256 ") ||
		len(changes[0].New) > 300 || !utf8.ValidString(changes[0].New) {
		t.Errorf("the change is told as %q", changes)
	}
	changes, _ = with("one\ntwo").Diff(with("one"), 10)
	if len(changes) != 1 || changes[0].String() != `a fallback.static.body: one -> "one\ntwo"` {
		t.Errorf("the change is told as %q", changes)
	}
}

// Tools read an explanation as JSON.
func TestExplanationJSON(t *testing.T) {
	text, err := json.Marshal(Explanation{Upstream: "a", Match: &Match{Host: "h"}, Values: []Value{{Path: "p", Value: "v", Source: FromUpstream, Position: Position{"f", 1, 2}}}})
	want := `{"upstream":"a","match":{"host":"h"},"match_index":0,"values":[{"path":"p","value":"v","source":"upstream","position":{"file":"f","line":1,"column":2}}]}`
	if err != nil || string(text) != want {
		t.Errorf("got %s, %v; want %s", text, err, want)
	}
}
