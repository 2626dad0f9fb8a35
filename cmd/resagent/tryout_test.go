package main

import (
	"slices"
	"testing"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/policies/policyfile"
)

func snapshotOf(t *testing.T, upstream string) *policies.Snapshot {
	t.Helper()
	set, err := policyfile.Parse("p.yaml", []byte("version: 1\nupstreams:\n  u: "+upstream+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := policies.Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A change of a limit, judged by some seconds of history.
func TestTryOut(t *testing.T) {
	bulkhead := agent.LimitHistory{Upstream: "u", Kind: wire.Bulkhead,
		InUse: []int{0, 10, 20, 20, 5}, Waiting: []int{0, 0, 3, 1, 0}, Taken: make([]int, 5), Samples: []int{0, 10, 500, 500, 10}}
	rate := agent.LimitHistory{Upstream: "u", Kind: wire.RateLimit,
		InUse: make([]int, 5), Waiting: []int{0, 0, 0, 7, 0}, Taken: []int{30, 10, 60, 100, 0}, Samples: []int{10, 10, 10, 10, 10}}
	budget := agent.LimitHistory{Upstream: "u", Kind: wire.RetryBudget,
		InUse: []int{0, 14, 140, 90, 0}, Waiting: make([]int, 5), Taken: make([]int, 5), Samples: []int{1, 1, 1, 1, 1}}
	for name, c := range map[string]struct {
		old, now string
		seen     []agent.LimitHistory
		want     trial
	}{
		"bulkhead lowered": {
			"{bulkhead: {max_concurrent: 20}}", "{bulkhead: {max_concurrent: 12}}", []agent.LimitHistory{bulkhead},
			trial{Kind: wire.Bulkhead, Old: "20", New: "12", Peak: 20, PeakWaiting: 3, Waited: 2, Above: 2, Affected: 11},
		},
		"bulkhead raised above all that was asked for": {
			"{bulkhead: {max_concurrent: 20}}", "{bulkhead: {max_concurrent: 23}}", []agent.LimitHistory{bulkhead},
			trial{Kind: wire.Bulkhead, Old: "20", New: "23", Peak: 20, PeakWaiting: 3, Waited: 2},
		},
		"bulkhead that nobody used": {
			"{bulkhead: {max_concurrent: 20}}", "{bulkhead: {max_concurrent: 1}}", nil,
			trial{Kind: wire.Bulkhead, Old: "20", New: "1"},
		},
		"bulkhead added": {
			"{}", "{bulkhead: {max_concurrent: 2}}", []agent.LimitHistory{rate},
			trial{Kind: wire.Bulkhead, Old: "off", New: "2", NotKnown: "there is no such limit of the host now, and so nothing was counted"},
		},
		"bulkhead taken away": {
			"{bulkhead: {max_concurrent: 20}}", "{}", []agent.LimitHistory{bulkhead},
			trial{Kind: wire.Bulkhead, Old: "20", New: "off", Peak: 20, PeakWaiting: 3, Waited: 2},
		},
		"bulkhead made each process's own": {
			"{bulkhead: {max_concurrent: 20}}", "{bulkhead: {max_concurrent: 20, scope: process}}", []agent.LimitHistory{bulkhead},
			trial{Kind: wire.Bulkhead, Old: "20", New: "20 each", NotKnown: "each process would have it for itself, and what each one used is not kept"},
		},
		"bulkhead made the host's": {
			"{bulkhead: {max_concurrent: 20, scope: process}}", "{bulkhead: {max_concurrent: 20}}", []agent.LimitHistory{bulkhead},
			trial{Kind: wire.Bulkhead, Old: "20 each", New: "20", NotKnown: "there is no such limit of the host now, and so nothing was counted"},
		},
		// 10 tokens at first and 50 a second: 30 of 60, 10 of 60 (10 are kept), 60
		// of 60, 50 of 50 for 100.
		"rate lowered": {
			"{rate_limit: {rate: 100/s, burst: 20}}", "{rate_limit: {rate: 50/s, burst: 10}}", []agent.LimitHistory{rate},
			trial{Kind: wire.RateLimit, Old: "100/s+20", New: "50/s+10", Peak: 100, PeakWaiting: 7, Waited: 1, Above: 1, Affected: 50},
		},
		"burst raised for the same rate": {
			"{rate_limit: {rate: 100/s, burst: 20}}", "{rate_limit: {rate: 100/s, burst: 30}}", []agent.LimitHistory{rate},
			trial{Kind: wire.RateLimit, Old: "100/s+20", New: "100/s+30", Peak: 100, PeakWaiting: 7, Waited: 1},
		},
		"budget lowered": {
			"{retry_budget: {capacity: 500}}", "{retry_budget: {capacity: 100}}", []agent.LimitHistory{budget},
			trial{Kind: wire.RetryBudget, Old: "500", New: "100", Peak: 140, Above: 1, Affected: 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := tryOut(snapshotOf(t, c.old), snapshotOf(t, c.now), agent.History{Seconds: 5, Limits: c.seen})
			c.want.Upstream = "u"
			if len(got.Limits) != 1 || got.Limits[0] != c.want {
				t.Errorf("got  %+v\nwant %+v", got.Limits, c.want)
			}
			if c.want.Kind == wire.Bulkhead && c.want.NotKnown == "" && c.want.New != "off" && len(got.NotJudged) != 1 {
				t.Errorf("not judged: %v, want bulkhead.max_waiting, which follows max_concurrent", got.NotJudged)
			}
		})
	}
}

// What is no limit of the host is told as not judged, and all of it.
func TestTryOutNotJudged(t *testing.T) {
	old := snapshotOf(t, "{timeout: {attempt: 2s}, bulkhead: {max_concurrent: 5, max_wait: 1s}}")
	now := snapshotOf(t, "{timeout: {attempt: 1s}, bulkhead: {max_concurrent: 5, max_wait: 2s, max_share_per_uid: 0.5}, circuit_breaker: {disabled: true}, rate_limit: {rate: 5/s}}")
	got := tryOut(old, now, agent.History{Seconds: 5})
	var paths []string
	for _, c := range got.NotJudged {
		paths = append(paths, c.Path)
	}
	for _, want := range []string{"timeout.attempt", "bulkhead.max_wait", "bulkhead.max_share_per_uid", "circuit_breaker.window"} {
		if !slices.Contains(paths, want) {
			t.Errorf("%s is not told as not judged: %v", want, paths)
		}
	}
	if slices.Contains(paths, "rate_limit.rate") || slices.Contains(paths, "rate_limit.max_wait") || len(got.Limits) != 1 {
		t.Errorf("a rate limit that comes is a trial, and nothing else: %v, %v", got.Limits, paths)
	}
	same := tryOut(old, old, agent.History{Seconds: 5})
	if len(same.Limits)+len(same.NotJudged) > 0 {
		t.Errorf("nothing changes, and it is said: %+v", same)
	}
}
