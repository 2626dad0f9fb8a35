package policies

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A hedge section is off unless written, and {} is the live p95 with 5 %.
func TestHedge(t *testing.T) {
	set := &Set{
		Version:  1,
		Defaults: Policy{Hedge: &Hedge{Delay: 50 * time.Millisecond}},
		Upstreams: map[string]Policy{
			"defaults": {},
			"measured": {Hedge: &Hedge{Delay: P95}},
			"more":     {Hedge: &Hedge{MaxExtraLoad: 0.2}},
			"off":      {Hedge: &Hedge{Disabled: true}},
		},
	}
	s, err := Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*Hedge{
		"defaults": {Delay: 50 * time.Millisecond, MaxExtraLoad: 0.05},
		"measured": {Delay: P95, MaxExtraLoad: 0.05},
		"more":     {Delay: 50 * time.Millisecond, MaxExtraLoad: 0.2},
		"off":      nil,
	} {
		got := s.Named(name).Policy.Hedge
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	bare, err := Compile(&Set{Version: 1, Upstreams: map[string]Policy{"none": {}, "empty": {Hedge: &Hedge{}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := bare.Named("none").Policy.Hedge; got != nil {
		t.Errorf("unwritten: %+v, want none", got)
	}
	if got := bare.Named("empty").Policy.Hedge; got == nil || *got != (Hedge{Delay: P95, MaxExtraLoad: 0.05}) {
		t.Errorf("{}: %+v, want the live p95 and 5 %%", got)
	}
	if Unnamed().Hedge != nil {
		t.Error("an authority that no policy names is hedged")
	}
}

// The word p95 is read, written and explained where a hedge's delay stands, and
// is no duration anywhere else.
func TestHedgeP95InText(t *testing.T) {
	const text = `{"version":1,"upstreams":{"a":{"hedge":{"delay":"p95","max_extra_load":0.1}}}}`
	var set Set
	if err := json.Unmarshal([]byte(text), &set); err != nil {
		t.Fatal(err)
	}
	if got := set.Upstreams["a"].Hedge.Delay; got != P95 {
		t.Errorf("read %d, want P95", got)
	}
	if back, err := json.Marshal(set); err != nil || string(back) != text {
		t.Errorf("written again: %s, %v", back, err)
	}
	s, err := Compile(&set)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, v := range s.ExplainNamed("a").Values {
		found = found || v.Path == "hedge.delay" && v.Value == "p95"
	}
	if !found {
		t.Errorf("explained as %+v", s.ExplainNamed("a").Values)
	}
	if s.Lookup("GET", &url.URL{Host: "a"}) != nil {
		t.Error("matched without a match")
	}
}

func TestHedgeRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		p    Policy
		want string
	}{
		"zero in a file would be unsaid, below zero": {Policy{Hedge: &Hedge{Delay: -5}}, "upstreams.a.hedge.delay"},
		"none":          {Policy{Hedge: &Hedge{Delay: None}}, "upstreams.a.hedge.delay"},
		"p95 elsewhere": {Policy{Timeout: &Timeout{Attempt: P95}}, "upstreams.a.timeout.attempt"},
		"more than all": {Policy{Hedge: &Hedge{MaxExtraLoad: 1.5}}, "upstreams.a.hedge.max_extra_load"},
		"later than the attempt's end": {Policy{Hedge: &Hedge{Delay: 2 * time.Second}, Timeout: &Timeout{Attempt: 2 * time.Second}},
			"upstreams.a.hedge.delay: 2s is not below timeout.attempt, 2s"},
		"later than the call's end": {Policy{Hedge: &Hedge{Delay: 2 * time.Second}, Timeout: &Timeout{Attempt: None, Total: time.Second}},
			"upstreams.a.hedge.delay: 2s is not below timeout.total, 1s"},
	} {
		_, err := Compile(&Set{Version: 1, Upstreams: map[string]Policy{"a": tc.p}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want it to name %s", name, err, tc.want)
		}
	}
	for _, text := range []string{`"p99"`, `"P95"`, `0`, `"none"`, `0.95`} {
		var set Set
		err := json.Unmarshal([]byte(`{"version":1,"upstreams":{"a":{"hedge":{"delay":`+text+`}}}}`), &set)
		if err == nil {
			_, err = Compile(&set)
		}
		if err == nil {
			t.Errorf("delay: %s was taken as %v", text, set.Upstreams["a"].Hedge.Delay)
		}
	}
}
