package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	// pace is how many calls a second all callers make together where it is not
	// full speed.
	pace = 20_000
)

// The situations, and what is measured in each.
const (
	partFull  = "loopback: full speed"
	partHeap  = "loopback: full speed, 64 MiB of live heap"
	partPaced = "loopback: 20,000 calls/s, 64 MiB of live heap"

	throughput = "throughput"
	late       = "p99"
	processor  = "processor time of a call"
)

// Those that take turns over loopback.
const (
	loopBare  = "http.Transport"
	loopLeast = "http.Transport, with a context for each call"
	loopBusy  = "http.Transport, with 1 us of computing for each call"
	loopOurs  = "resagent, host-wide"
	loopPeer  = "failsafe-go, equal stack"
)

// busy computes for a while before each call, and takes no memory: what any
// layer costs that does so much. More than 1 us does not fit the goal for p99.
type busy struct{ http.RoundTripper }

func (b busy) RoundTrip(req *http.Request) (*http.Response, error) {
	for began := time.Now(); time.Since(began) < time.Microsecond; {
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
// the limits of the host: at full speed, the same in the memory of a service,
// and there at a steady pace.
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
	all := []stack{
		{loopBare, pool()},
		{loopLeast, least{pool()}},
		{loopBusy, busy{pool()}},
		{loopOurs, &transport.Transport{Base: pool(), Agent: s}},
		{loopPeer, failsafeStack(pool())},
	}
	url := "http://" + strings.TrimSpace(addr) + "/"
	if err := turns(book, all, url, partFull, 0); err != nil {
		return err
	}
	live := make([]byte, liveHeap)
	defer runtime.KeepAlive(live)
	if err := turns(book, all, url, partHeap, 0); err != nil {
		return err
	}
	return turns(book, all, url, partPaced, callers*time.Second/pace)
}

// turns has all of them call in turn; each caller begins a call every so often.
// 0: when the last one has ended.
func turns(book *book, all []stack, url, part string, every time.Duration) error {
	const kinds = 3
	d, rounds := slice, 4*book.rounds
	if every > 0 { // the collector runs once or twice a second, and makes the p99
		d, rounds = 4*slice, book.rounds
	}
	series := make([][kinds]Series, len(all))
	for i, one := range all {
		for k, kind := range [kinds]struct{ what, unit string }{{throughput, "calls/s"}, {late, "ns"}, {processor, "ns"}} {
			series[i][k] = Series{Part: part, Name: one.name + ", " + kind.what, Unit: kind.unit}
		}
		if _, err := rush(one, url, slice, every); err != nil { // connections are made
			return err
		}
	}
	for round := range rounds {
		for k := range all {
			i := (round + k) % len(all) // each begins as often as the others
			before := worked()
			took, err := rush(all[i], url, d, every)
			if err != nil {
				return err
			}
			calls := float64(len(took))
			for k, v := range [kinds]float64{calls / d.Seconds(), float64(took[len(took)*99/100]), float64(worked()-before) / calls} {
				series[i][k].Values = append(series[i][k].Values, rounded(v))
			}
		}
	}
	for k := range kinds {
		if every > 0 && k == 0 {
			continue // it is given
		}
		for i := range all {
			book.add(series[i][k])
		}
	}
	return nil
}

// worked is the processor time that this process has used.
func worked() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		fail(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// rush has callers call url for d, and returns how long each call took, sorted.
func rush(t http.RoundTripper, url string, d, every time.Duration) ([]time.Duration, error) {
	took, errs := make([][]time.Duration, callers), make([]error, callers)
	var all sync.WaitGroup
	start := time.Now()
	for i := range callers {
		all.Go(func() {
			for n := time.Duration(0); errs[i] == nil; n++ {
				time.Sleep(time.Until(start.Add(n*every + time.Duration(i)*every/callers))) // each at its own time
				began := time.Now()
				if began.Sub(start) >= d {
					return
				}
				errs[i] = one(t, url)
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	out := slices.Concat(took...)
	slices.Sort(out)
	return out, nil
}

// one makes a call and reads its answer.
func one(t http.RoundTripper, url string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// looped is a row of the budget. Why it is not met, the others of its table say.
func looped(r *Results, what, part, kind, goal string, ok func(float64) bool) row {
	of := func(part, name, kind string) float64 {
		a, b := r.find(part, name+", "+kind), r.find(part, loopBare+", "+kind)
		if a == nil || b == nil {
			return math.NaN()
		}
		return summary(ratios(a, b, nil)).Center
	}
	why := fmt.Sprintf("client and server share two processors that are never idle, so what a call computes and allocates is taken from all calls. "+
		"A context for each call alone, which any timeout needs, comes to %.2f, 1 us of computing to %.2f, failsafe-go's equal stack to %.2f",
		of(part, loopLeast, kind), of(part, loopBusy, kind), of(part, loopPeer, kind))
	if kind == late {
		why += fmt.Sprintf("; at 20,000 calls/s this one's is %.2f", of(partPaced, loopOurs, kind))
	}
	return ratio(r, what, goal, part, loopOurs+", "+kind, loopBare+", "+kind, ok, why)
}

// loopTable shows one situation: a line for each that took its turn, and beside
// what was measured what it is of the bare transport's.
func loopTable(b *bytes.Buffer, r *Results, part string) {
	kinds := []string{throughput, late, processor}
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return r.find(part, loopBare+", "+kind) == nil })
	fmt.Fprintf(b, "\n## %s\n\n|  | %s |\n|%s\n", strings.ToUpper(part[:1])+part[1:], strings.Join(kinds, " | "), strings.Repeat(" --- |", len(kinds)+1))
	for _, name := range []string{loopBare, loopLeast, loopBusy, loopOurs, loopPeer} {
		fmt.Fprintf(b, "| %s |", name)
		for _, kind := range kinds {
			s, base := r.find(part, name+", "+kind), r.find(part, loopBare+", "+kind)
			fmt.Fprintf(b, " %s", value(s.median(), s.Unit))
			if s == base {
				fmt.Fprintf(b, " %s |", spread(summary(s.Values)))
				continue
			}
			of := summary(ratios(s, base, nil))
			fmt.Fprintf(b, " (%.2f %s) |", of.Center, spread(of))
		}
		b.WriteByte('\n')
	}
}
