package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	// contest is how long they fight for it.
	contest = time.Second
)

// turn is one holding of the permit. Times are of the system's monotonic
// clock, the same for all processes.
type turn struct {
	Asked, Got, Gave int64
	process          int
}

// fight is one of two processes that want the same permit; each call holds it
// for hold.
func fight(hold time.Duration) error {
	h := &host{socket: wire.Socket()}
	s, err := h.session()
	if err != nil {
		return err
	}
	named := s.Policies().Named("upstream")
	limits := s.Limits(named.Name, &named.Policy)
	fmt.Println() // ready
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	var turns []turn
	for end := monotonic() + int64(contest); monotonic() < end; {
		t := turn{Asked: monotonic()}
		p, err := limits.Acquire(context.Background())
		if err != nil {
			return err
		}
		t.Got = monotonic()
		if hold > 0 {
			time.Sleep(hold)
		}
		t.Gave = monotonic()
		p.Release()
		turns = append(turns, t)
	}
	return json.NewEncoder(os.Stdout).Encode(turns)
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// handOver measures the way of the one permit from the process that gives it
// back to the one that waits for it.
func handOver(book *book) error {
	if err := wakes(book); err != nil {
		return err
	}
	for _, hold := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		part := "hand-over"
		median := Series{Part: part, Name: "median, held for " + hold.String(), Unit: "ns"}
		use := Series{Part: part, Name: "use of the limit, held for " + hold.String(), Unit: "of 1"}
		smaller := Series{Part: part, Name: "part of the process that had less, held for " + hold.String(), Unit: "of 1"}
		var all []int64
		for range max(6, book.rounds/2) {
			turns, err := pair(hold)
			if err != nil {
				return err
			}
			var ways []int64
			var used int64
			var calls [2]int
			for i, t := range turns {
				calls[t.process]++
				used += t.Gave - t.Got
				if i > 0 && turns[i-1].process != t.process && t.Asked < turns[i-1].Gave {
					ways = append(ways, t.Got-turns[i-1].Gave)
				}
			}
			if len(ways) == 0 {
				return fmt.Errorf("the permit was never handed over")
			}
			slices.Sort(ways)
			median.Values = append(median.Values, float64(ways[len(ways)/2]))
			use.Values = append(use.Values, rounded(float64(used)/float64(turns[len(turns)-1].Gave-turns[0].Got)))
			smaller.Values = append(smaller.Values, rounded(float64(min(calls[0], calls[1]))/float64(calls[0]+calls[1])))
			all = append(all, ways...)
		}
		slices.Sort(all)
		book.add(median)
		book.add(Series{Part: part, Name: "distribution, held for " + hold.String(), Unit: "ns", Values: percentiles(all)})
		book.add(use)
		book.add(smaller)
	}
	return nil
}

// pair has two processes contend and returns all turns in order.
func pair(hold time.Duration) ([]turn, error) {
	h, err := newHost(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
		"upstream": {Bulkhead: &policies.Bulkhead{MaxConcurrent: 1, MaxWait: time.Minute}},
	}})
	if err != nil {
		return nil, err
	}
	defer h.stop()
	var two []*process
	for range 2 {
		p, err := h.spawn("fight", hold.String())
		if err != nil {
			return nil, err
		}
		defer p.kill()
		two = append(two, p)
	}
	for _, one := range two {
		if err := one.begin(); err != nil {
			return nil, err
		}
	}
	var all []turn
	for i, one := range two {
		var turns []turn
		if err := json.NewDecoder(one.out).Decode(&turns); err != nil {
			return nil, fmt.Errorf("a contender's account: %w", err)
		}
		if err := one.Wait(); err != nil {
			return nil, err
		}
		for _, t := range turns {
			t.process = i
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b turn) int { return cmp.Compare(a.Got, b.Got) })
	for i := range all[1:] {
		if all[i+1].Got < all[i].Gave {
			return nil, fmt.Errorf("the one permit was held twice, for %v", time.Duration(all[i].Gave-all[i+1].Got))
		}
	}
	return all, nil
}
