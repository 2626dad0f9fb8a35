package main

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/resagent/resagent/policies"
)

// kind is a request to send again and again.
type kind struct {
	name string
	make func() (*http.Request, error)
}

func kinds() ([]kind, error) {
	get, err := http.NewRequest(http.MethodGet, "http://upstream.test/x", nil)
	if err != nil {
		return nil, err
	}
	post := func(size int) func() (*http.Request, error) {
		body := bytes.Repeat([]byte("x"), size)
		return func() (*http.Request, error) {
			return http.NewRequest(http.MethodPost, "http://upstream.test/x", bytes.NewReader(body)) // sets GetBody
		}
	}
	return []kind{
		{"GET", func() (*http.Request, error) { return get, nil }},
		{"POST of 10 KiB with GetBody", post(10 << 10)},
		{"POST of 1 MiB with GetBody", post(1 << 20)},
	}, nil
}

// calls measures whole chains over a base that does nothing.
func calls(rounds int) error {
	h, err := newHost(limited(policies.ScopeHost))
	if err != nil {
		return err
	}
	defer h.stop()
	s, err := h.session()
	if err != nil {
		return err
	}
	defer s.Close()
	all, err := stacks(s)
	if err != nil {
		return err
	}
	requests, err := kinds()
	if err != nil {
		return err
	}
	for _, k := range requests {
		var runs []contestant
		for _, one := range all {
			runs = append(runs, contestant{one.name, func(b *testing.B) {
				for b.Loop() {
					req, err := k.make()
					if err != nil {
						b.Fatal(err)
					}
					resp, err := one.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					resp.Body.Close()
				}
			}})
		}
		results, err := race(rounds, runs)
		if err != nil {
			return err
		}
		showCalls(k.name, results)
	}
	return nil
}

func showCalls(name string, results []figures) {
	base, peer := results[0], results[0]
	for _, f := range results {
		if f.name == failsafe {
			peer = f
		}
	}
	rows := [][]string{{"", "time", "over bare", "of failsafe-go's", "allocs over bare", "bytes over bare"}}
	for _, f := range results {
		over := f.time.Center - base.time.Center
		row := []string{f.name, spread(f)}
		if f.name == bare {
			row = append(row, "", "", fmt.Sprintf("(%d)", f.allocs), fmt.Sprintf("(%d)", f.bytes))
		} else {
			row = append(row, duration(over), fmt.Sprintf("%.2f", over/(peer.time.Center-base.time.Center)),
				fmt.Sprint(f.allocs-base.allocs), fmt.Sprint(f.bytes-base.bytes))
		}
		rows = append(rows, row)
	}
	show(name, rows...)
}
