package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const (
	// contenderEnv makes this program one of two processes that want the same
	// permit: its value is for how long each call holds it.
	contenderEnv = "RESAGENT_BENCH_HOLD"
	// contest is how long they fight for it.
	contest = 2 * time.Second
)

// turn is one holding of the permit. Times are of the system's monotonic
// clock, the same for all processes.
type turn struct {
	Asked, Got, Gave int64
	process          int
}

// contend is the process.
func contend() {
	hold, err := time.ParseDuration(os.Getenv(contenderEnv))
	if err == nil {
		err = fight(hold)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

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
func handOver(rounds int) error {
	rows := [][]string{{"each holds it for", "median", "p99", "hand-overs", "use of the limit", "smaller part"}}
	for _, hold := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		var ways []time.Duration
		var used, wall time.Duration
		var calls [2]int
		for range max(1, rounds/3) {
			turns, err := pair(hold)
			if err != nil {
				return err
			}
			for i, t := range turns {
				calls[t.process]++
				used += time.Duration(t.Gave - t.Got)
				if i > 0 && turns[i-1].process != t.process && t.Asked < turns[i-1].Gave {
					ways = append(ways, time.Duration(t.Got-turns[i-1].Gave))
				}
			}
			wall += time.Duration(turns[len(turns)-1].Gave - turns[0].Got)
		}
		slices.Sort(ways)
		if len(ways) == 0 {
			return fmt.Errorf("the permit was never handed over")
		}
		rows = append(rows, []string{hold.String(), inNanoseconds(ways[len(ways)/2]), inNanoseconds(ways[len(ways)*99/100]),
			strconv.Itoa(len(ways)), fmt.Sprintf("%.3f", float64(used)/float64(wall)),
			fmt.Sprintf("%.2f", float64(min(calls[0], calls[1]))/float64(calls[0]+calls[1]))})
	}
	show("Hand-over of one contended permit between two processes", rows...)
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
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var two [2]struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out io.ReadCloser
	}
	for i := range two {
		c := exec.Command(self)
		c.Env = append(os.Environ(), contenderEnv+"="+hold.String(), wire.SocketEnv+"="+h.socket)
		c.Stderr = os.Stderr
		in, err := c.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := c.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := c.Start(); err != nil {
			return nil, err
		}
		defer c.Process.Kill()
		two[i].cmd, two[i].in, two[i].out = c, in, out
	}
	for _, one := range two {
		if _, err := one.out.Read(make([]byte, 1)); err != nil {
			return nil, fmt.Errorf("a contender is not ready: %w", err)
		}
	}
	for _, one := range two {
		if _, err := one.in.Write([]byte{'\n'}); err != nil {
			return nil, err
		}
	}
	var all []turn
	for i, one := range two {
		var turns []turn
		if err := json.NewDecoder(one.out).Decode(&turns); err != nil {
			return nil, fmt.Errorf("a contender's account: %w", err)
		}
		if err := one.cmd.Wait(); err != nil {
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
