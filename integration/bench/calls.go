package main

import (
	"bytes"
	"net/http"
	"runtime"
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

// calls measures whole chains over a base that does nothing, one call at a time
// and, with the memory of a service, as many as there are processors.
func calls(book *book) error {
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
			runs = append(runs, contestant{name: one.name, run: func(b *testing.B) { again(b, one, k.make) }})
		}
		if err := book.race("calls: "+k.name, runs); err != nil {
			return err
		}
	}
	live := make([]byte, liveHeap)
	defer runtime.KeepAlive(live)
	var runs []contestant
	for _, one := range all {
		runs = append(runs, contestant{name: one.name, run: func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					call(b, one, requests[0].make)
				}
			})
		}})
	}
	return book.race(partAtOnce, runs)
}

// again makes the same call until the benchmark ends.
func again(b *testing.B, t http.RoundTripper, make func() (*http.Request, error)) {
	for b.Loop() {
		call(b, t, make)
	}
}

// call makes one call.
func call(b *testing.B, t http.RoundTripper, make func() (*http.Request, error)) {
	req, err := make()
	if err != nil {
		b.Error(err)
		return
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		b.Error(err)
		return
	}
	resp.Body.Close()
}
