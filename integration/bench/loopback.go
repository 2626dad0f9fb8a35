package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

const (
	// callers call at once over loopback.
	callers = 8
	// slice is how long one of them runs before the next has its turn: short,
	// so that all meet the same machine.
	slice = 250 * time.Millisecond
	// liveHeap is what a service has in its memory beside its calls. This
	// program has next to nothing, so its collector runs some hundred times a
	// second, and what a call allocates weighs many times what it does elsewhere.
	liveHeap = 64 << 20
	besides  = ", 64 MiB of live heap"
)

// Those that take turns over loopback.
const (
	loopBare  = "http.Transport"
	loopLeast = "http.Transport, with a context for each call"
	loopBusy  = "http.Transport, with 1.5 us of computing for each call"
	loopOurs  = "resagent, host-wide"
)

// busy computes for a while before each call, and takes no memory: what any
// layer costs that does so much.
type busy struct{ http.RoundTripper }

func (b busy) RoundTrip(req *http.Request) (*http.Response, error) {
	for began := time.Now(); time.Since(began) < 1500*time.Nanosecond; {
	}
	return b.RoundTripper.RoundTrip(req)
}

// least is what any timeout for each call costs by itself: a copy of the
// request, with a context that ends with the response's body.
type least struct{ http.RoundTripper }

func (l least) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := l.RoundTripper.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &ending{resp.Body, cancel}
	return resp, nil
}

type ending struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (e *ending) Close() error {
	defer e.cancel(nil)
	return e.ReadCloser.Close()
}

// serve is an upstream in a process of its own. It prints its address, and
// ends with its input.
func serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	body := []byte(strings.Repeat("x", 100))
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }))
	fmt.Printf("\n%s\n", l.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// loopback measures HTTP over loopback, bare and through the whole chain with
// the limits of the host; then once more in the memory of a service.
func loopback(book *book) error {
	set := limited(policies.ScopeHost)
	up := set.Upstreams["upstream"]
	up.Match = []policies.Match{{Host: "127.0.0.1"}}
	set.Upstreams["upstream"] = up
	h, err := newHost(set)
	if err != nil {
		return err
	}
	defer h.stop()
	server, err := h.spawn("serve", "")
	if err != nil {
		return err
	}
	defer server.kill()
	addr, err := server.out.ReadString('\n')
	if err != nil {
		return err
	}
	s, err := h.session()
	if err != nil {
		return err
	}
	defer s.Close()
	pool := func() *http.Transport { return &http.Transport{MaxIdleConnsPerHost: 2 * callers} }
	all := []stack{{loopBare, pool()}, {loopLeast, least{pool()}}, {loopBusy, busy{pool()}}, {loopOurs, &transport.Transport{Base: pool(), Agent: s}}}
	url := "http://" + strings.TrimSpace(addr) + "/"
	if err := turns(book, all, url, ""); err != nil {
		return err
	}
	live := make([]byte, liveHeap)
	defer runtime.KeepAlive(live)
	return turns(book, all, url, besides)
}

// turns has all of them call in turn.
func turns(book *book, all []stack, url, where string) error {
	rate, late := make([]Series, len(all)), make([]Series, len(all))
	for i, one := range all {
		rate[i] = Series{Part: "loopback", Name: one.name + where + ", throughput", Unit: "calls/s"}
		late[i] = Series{Part: "loopback", Name: one.name + where + ", p99", Unit: "ns"}
		if _, err := rush(one, url, slice); err != nil { // connections are made
			return err
		}
	}
	for round := range 4 * book.rounds {
		for k := range all {
			i := (round + k) % len(all) // each begins as often as the others
			took, err := rush(all[i], url, slice)
			if err != nil {
				return err
			}
			rate[i].Values = append(rate[i].Values, rounded(float64(len(took))/slice.Seconds()))
			late[i].Values = append(late[i].Values, rounded(float64(took[len(took)*99/100])))
		}
	}
	for _, s := range append(rate, late...) {
		book.add(s)
	}
	return nil
}

// rush calls url at full speed for d and returns how long each call took,
// sorted.
func rush(t http.RoundTripper, url string, d time.Duration) ([]time.Duration, error) {
	took, errs := make([][]time.Duration, callers), make([]error, callers)
	var all sync.WaitGroup
	end := time.Now().Add(d)
	for i := range callers {
		all.Go(func() {
			for began := time.Now(); began.Before(end) && errs[i] == nil; began = time.Now() {
				req, err := http.NewRequest(http.MethodGet, url, nil)
				if err != nil {
					errs[i] = err
					return
				}
				resp, err := t.RoundTrip(req)
				if err != nil {
					errs[i] = err
					return
				}
				_, errs[i] = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	out := slices.Concat(took...)
	slices.Sort(out)
	return out, nil
}
