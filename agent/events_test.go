//go:build linux

package agent_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
)

// One that follows is told of what was and of what comes, with who did it and
// what it changed, and is let go when the agent stops.
func TestEventsAreFollowed(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	resp, err := h.web("agent.sock").Get("http://resagent/v1/events?follow=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func() (e agent.Event) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("no more events: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := next(); e.Kind != agent.AgentStarted || e.ID != 1 {
		t.Errorf("first event %+v, want that the agent started", e)
	}
	h.set.Store(bulkhead(5, 10, time.Second))
	again, err := h.web("admin.sock").Post("http://resagent/v1/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Body.Close()
	e := next()
	if e.Kind != agent.Reload || e.UID == nil || *e.UID != os.Getuid() || e.PID != os.Getpid() {
		t.Errorf("event %+v, want a reload by this process", e)
	}
	if len(e.Changes) != 1 || e.Changes[0].String() != "shop bulkhead.max_concurrent: 3 -> 5" {
		t.Errorf("changes %v, want the one of the limit", e.Changes)
	}
	o := bring(t)
	h.greet(o)
	if e := next(); e.Kind != agent.SessionBegan || e.PID != os.Getpid() {
		t.Errorf("event %+v, want a session of this process", e)
	}
	h.stop()
	h.stop = nil
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("at the agent's stop the events end with %v", err)
	}
}

// One user cannot take all places to follow.
func TestFollowersAreBounded(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	var last *http.Response
	for range 9 {
		resp, err := h.web("agent.sock").Get("http://resagent/v1/events?follow=1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		last = resp
	}
	if body, _ := io.ReadAll(last.Body); last.StatusCode != 503 || !strings.Contains(string(body), "at most 8 of a user") {
		t.Errorf("the ninth of a user: %s %s, want 503 and why", last.Status, body)
	}
}

// The metrics are what Prometheus's own linter accepts.
func TestMetrics(t *testing.T) {
	h := newHost(t, bulkhead(5, 10, time.Second))
	o := bring(t)
	r, _ := h.greet(o)
	c, _ := r.open(o, 2)
	c.Count(0, true)
	c.Count(3, false)
	resp, err := h.web("agent.sock").Get("http://resagent/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"resagent_sessions 1", "resagent_policy_generation 1", `resagent_events_total{kind="started"} 1`,
		`resagent_limit_capacity{upstream="shop",kind="bulkhead"} 5`, `resagent_limit_in_use{upstream="shop",kind="bulkhead"} 2`,
		`resagent_calls_total{upstream="shop"} 2`, `resagent_calls_sent_total{upstream="shop"} 1`, `resagent_attempts_total{upstream="shop"} 3`,
		`resagent_fallback_answers_total{upstream="shop"} 1`, `resagent_processes_doubted{upstream="shop"} 0`,
	} {
		if !strings.Contains(string(body), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, body)
		}
	}
	tool := agent.Promtool(t)
	if tool == "" {
		return
	}
	lint := exec.Command(tool, "check", "metrics")
	lint.Stdin = strings.NewReader(string(body))
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s\nof\n%s", err, out, body)
	}
}
