package main

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/resagent/resagent/policies"
)

// lookups measures how a policy is found among few and many.
func lookups(rounds int) error {
	var runs []contestant
	for _, n := range []int{1, 100, 10_000} {
		set := &policies.Set{Version: 1, Upstreams: make(map[string]policies.Policy, n)}
		for i := range n {
			set.Upstreams[fmt.Sprintf("u%d", i)] = policies.Policy{Match: []policies.Match{
				{Host: fmt.Sprintf("host%d.test", i), Path: "/v1"}, {Host: fmt.Sprintf("*.zone%d.test", i)},
			}}
		}
		snapshot, err := policies.Compile(set)
		if err != nil {
			return err
		}
		exact := &url.URL{Scheme: "http", Host: fmt.Sprintf("host%d.test", n/2), Path: "/v1/things"}
		suffix := &url.URL{Scheme: "http", Host: fmt.Sprintf("a.zone%d.test:8080", n/2), Path: "/"}
		runs = append(runs, contestant{fmt.Sprintf("%d upstreams, exact and suffix", n), func(b *testing.B) {
			for b.Loop() {
				if snapshot.Lookup(http.MethodGet, exact) == nil || snapshot.Lookup(http.MethodGet, suffix) == nil {
					b.Fatal("not found")
				}
			}
		}})
	}
	results, err := race(rounds, runs)
	if err != nil {
		return err
	}
	rows := [][]string{{"", "time for both", "allocs"}}
	for _, f := range results {
		rows = append(rows, []string{f.name, spread(f), fmt.Sprint(f.allocs)})
	}
	show("Policy lookup", rows...)
	return nil
}
