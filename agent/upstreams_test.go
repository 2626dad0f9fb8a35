//go:build linux

package agent_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

// shop is what the status says of the one upstream.
func (h *host) shop() agent.UpstreamStatus {
	h.t.Helper()
	s := h.running.Status()
	if len(s.Upstreams) != 1 || s.Upstreams[0].Name != "shop" {
		h.t.Fatalf("upstreams %+v, want shop", s.Upstreams)
	}
	return s.Upstreams[0]
}

// joins is a process with a cell, by hand.
func (h *host) joins(t *testing.T) (*own, *raw, *page.Cell) {
	t.Helper()
	o := bring(t)
	r, _ := h.greet(o)
	c, _ := r.open(o, 0)
	return o, r, c
}

func TestCallsOfTheHost(t *testing.T) {
	h := newHost(t, bulkhead(5, 10, time.Second))
	if s := h.running.Status(); len(s.Upstreams) != 0 || s.Upstreams == nil {
		t.Fatalf("upstreams %+v before anybody came", s.Upstreams)
	}
	_, _, old := h.joins(t)
	_ = old // a transport of before these counts
	u := h.shop()
	if u.Calls.Amplification != nil || u.Calls.FallbackShare != nil || u.Counting != 0 || u.Processes != 1 {
		t.Errorf("of an older process: %+v, want nothing known", u)
	}

	_, _, a := h.joins(t)
	_, _, b := h.joins(t)
	for range 10 {
		a.Count(1, false)
		b.Count(2, false)
	}
	b.Count(0, true)
	b.Count(3, true)
	u = h.shop()
	want := agent.Calls{Sent: 21, Unsent: 1, Attempts: 33, Fallback: 2}
	if u.Calls.Calls != want || u.Counting != 2 || u.Processes != 3 || u.Doubted != 0 {
		t.Errorf("%+v, want %+v of 2 of 3 processes", u, want)
	}
	if got := fmt.Sprintf("%.3f %.3f", *u.Calls.Amplification, *u.Calls.FallbackShare); got != "1.571 0.091" {
		t.Errorf("amplification and fallback share %s", got)
	}
	if u.Breaker != "host" || u.OnAgentLoss != "hold" || len(u.Busiest) != 3 {
		t.Errorf("%+v", u)
	}
	if p := u.Busiest[0]; p.PID != os.Getpid() || p.UID != os.Getuid() || p.Command == "" || !p.Attached || p.Calls.Total() != 12 {
		t.Errorf("the busiest process: %+v", p)
	}
}

// One that says what cannot be is shown as such, and changes nothing of what
// the others say.
func TestALiarsCountsAreLeftOut(t *testing.T) {
	h := newHost(t, bulkhead(5, 10, time.Second))
	_, _, honest := h.joins(t)
	_, _, liar := h.joins(t)
	honest.Count(1, false)
	liar.Count(1, false)
	h.shop()
	for range 100 {
		liar.Count(1000, true) // three attempts is the most
		honest.Count(1, false)
	}
	u := h.shop()
	if want := (agent.Calls{Sent: 102, Attempts: 102}); u.Calls.Calls != want || u.Doubted != 1 {
		t.Errorf("%+v, want %+v and one that is not believed", u, want)
	}
	if p := u.Busiest[1]; !p.Doubted || p.Calls.Total() != 1 || u.Busiest[0].Doubted {
		t.Errorf("processes %+v, want the second one doubted", u.Busiest)
	}
}

// A process may still make as many attempts as an earlier policy allowed.
func TestAttemptsOfAnEarlierPolicyAreBelieved(t *testing.T) {
	of := func(attempts int) *policies.Set {
		set := bulkhead(5, 10, time.Second)
		shop := set.Upstreams["shop"]
		shop.Retry = &policies.Retry{MaxAttempts: attempts}
		set.Upstreams["shop"] = shop
		return set
	}
	h := newHost(t, of(3))
	_, _, c := h.joins(t)
	c.Count(3, false)
	h.shop()
	for _, n := range []int{8, 2} {
		h.set.Store(of(n))
		if _, err := h.running.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	c.Count(8, false)
	if u := h.shop(); u.Calls.Attempts != 11 || u.Doubted != 0 {
		t.Errorf("%+v, want 11 attempts that are believed", u)
	}
	c.Count(9, false)
	if u := h.shop(); u.Calls.Attempts != 11 || u.Doubted != 1 {
		t.Errorf("%+v, want the 9 that no policy allowed doubted", u)
	}
}

// What processes have counted stays when they end, and is not counted twice
// when they come back on another connection.
func TestCallsOutliveTheirProcess(t *testing.T) {
	h := newHost(t, bulkhead(5, 10, time.Second))
	o, r, c := h.joins(t)
	for range 7 {
		c.Count(2, false)
	}
	want := agent.Calls{Sent: 7, Attempts: 14}
	if u := h.shop(); u.Calls.Calls != want {
		t.Fatalf("%+v, want %+v", u.Calls, want)
	}
	_, w := r.open(o, 0)
	r.conn.Close()
	until(t, "gone", func() bool { return len(h.running.Status().Sessions) == 0 })
	c.Count(2, false) // while it has no connection
	h.greet(o, w)
	want = agent.Calls{Sent: 8, Attempts: 16}
	if u := h.shop(); u.Calls.Calls != want {
		t.Errorf("on another connection %+v, want %+v", u.Calls, want)
	}
	c.Count(2, true) // nobody looks before its end
	o.write.Close()  // the process has ended
	until(t, "buried", func() bool { return h.shop().Processes == 0 })
	want = agent.Calls{Sent: 9, Attempts: 18, Fallback: 1}
	if u := h.shop(); u.Calls.Calls != want {
		t.Errorf("after its end %+v, want %+v", u.Calls, want)
	}
	// Of an upstream that the policies name no more, nothing is kept.
	h.set.Store(&policies.Set{Version: 1})
	if _, err := h.running.Reload(); err != nil {
		t.Fatal(err)
	}
	if s := h.running.Status(); len(s.Upstreams) != 0 {
		t.Errorf("%+v of an upstream that is gone", s.Upstreams)
	}
}

// A later agent counts from when it came: an earlier one had what was before.
func TestAnotherAgentCountsAnew(t *testing.T) {
	h := newHost(t, bulkhead(5, 10, time.Second))
	o, r, c := h.joins(t)
	_, w := r.open(o, 0)
	c.Count(2, false)
	h.stop()
	h.start()
	if u := h.shop(); u.Calls.Total() != 0 || u.Processes != 1 || u.Busiest[0].Attached {
		t.Errorf("before it is back: %+v", u)
	}
	h.greet(o, w)
	c.Count(1, false)
	if u := h.shop(); u.Calls.Calls != (agent.Calls{Sent: 1, Attempts: 1}) {
		t.Errorf("%+v, want the one call since", u.Calls)
	}
}

func TestStatusNamesAsManyProcessesAsAsked(t *testing.T) {
	h := newHost(t, bulkhead(5, 10, time.Second))
	for range 7 {
		h.joins(t)
	}
	c := h.web("agent.sock")
	for query, want := range map[string]int{"": 5, "?processes=2": 2, "?processes=0": 0, "?processes=100": 7, "?processes=-1": -1, "?processes=9999999": -1, "?processes=all": -1} {
		resp, err := c.Get("http://resagent/v1/status" + query)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want < 0 {
			var p problem
			if err := json.Unmarshal(body, &p); err != nil || resp.StatusCode != 400 || p.Detail == "" {
				t.Errorf("%s: %s %s, want a problem", query, resp.Status, body)
			}
			continue
		}
		var s agent.Status
		if err := json.Unmarshal(body, &s); err != nil || len(s.Upstreams) != 1 || len(s.Upstreams[0].Busiest) != want || s.Upstreams[0].Processes != 7 {
			t.Errorf("%s: %v, %s, want %d processes named of 7", query, err, body, want)
		}
	}
}
