package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
)

// status is `resagent status`.
func status(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket := socketFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	wait := fs.Duration("wait", 0, "wait this long for an agent that is about to start, such as 10s")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	body, err := callWaiting(ctx, *wait, *socket, "/v1/status")
	if err != nil {
		return err
	}
	var now agent.Status
	if err := json.Unmarshal(body, &now); err != nil {
		return fmt.Errorf("the agent's answer to status is not understood: %w; is it of another version?", err)
	}
	if *asJSON {
		return printJSON(json.RawMessage(body)) // also what a newer agent says
	}
	printStatus(os.Stdout, *socket, now, time.Now())
	return nil
}

// callWaiting is a GET, tried for the time wait until an agent answers.
func callWaiting(ctx context.Context, wait time.Duration, socket, target string) ([]byte, error) {
	end := time.Now().Add(wait)
	for {
		body, err := call(ctx, socket, "GET", target)
		if no := new(problem); err == nil || errors.As(err, &no) || !time.Now().Before(end) {
			return body, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// printStatus shows the agent, then a line for each limit.
func printStatus(w io.Writer, socket string, s agent.Status, now time.Time) {
	users := map[int]bool{}
	for _, one := range s.Sessions {
		users[one.UID] = true
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintf(t, "agent\t%s, pid %d, up %v\n", socket, s.PID, now.Sub(s.Started).Round(time.Second))
	fmt.Fprintf(t, "policies\tgeneration %d, %s\n", s.Generation, count(s.Named, "upstream", "upstreams"))
	fmt.Fprintf(t, "sessions\t%s of %s\n", count(len(s.Sessions), "process", "processes"), count(len(users), "user", "users"))
	fmt.Fprintf(t, "ledger\t%s\n", printable(s.Ledger))
	if s.Refused != "" {
		first, _, _ := strings.Cut(s.Refused, "\n")
		fmt.Fprintf(t, "refused\tthe last reload: %s\n", printable(first))
	}
	for _, o := range s.Overrides {
		fmt.Fprintf(t, "override\t%s\n", printable(overrideText(o)))
	}
	printCircuits(t, s)
	if len(s.Limits) == 0 {
		return
	}
	fmt.Fprint(t, "\nUPSTREAM\tKIND\tLIMIT\tIN USE\tIDLE\tWAITING\tLEFT\tPROCESSES\n")
	for _, l := range s.Limits {
		left := strconv.Itoa(l.Level)
		if l.Kind == wire.Bulkhead {
			left = strconv.Itoa(max(0, l.Limit-l.Granted-l.Extra))
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%d\n", printable(l.Upstream), printable(string(l.Kind)),
			l.Limit, l.InUse+l.Extra, l.Available, l.Waiting, left, l.Processes)
	}
}

// printCircuits shows those that are not closed by themselves, and why.
func printCircuits(t io.Writer, s agent.Status) {
	head := "\nCIRCUITS\n"
	line := func(upstream, authority, state string) {
		fmt.Fprintf(t, "%s%s\t%s\t%s\n", head, printable(upstream), printable(authority), printable(state))
		head = ""
	}
	for _, name := range slices.Sorted(maps.Keys(s.Forced)) {
		f := s.Forced[name]
		line(name, "every authority", fmt.Sprintf("forced %s until %s by %s: %s", f.To, f.Until.Local().Format(time.RFC3339), f.By, f.Reason))
	}
	for _, c := range s.Circuits {
		if c.State != "closed" && c.Forced == nil {
			line(c.Upstream, c.Authority, fmt.Sprintf("%s: %s", c.State, c.Why))
		}
		if !c.PausedUntil.IsZero() {
			line(c.Upstream, c.Authority, fmt.Sprintf("paused until %s: pid %d was told to wait by Retry-After", c.PausedUntil.Local().Format(time.RFC3339), c.PausedBy))
		}
		for pid, n := range c.OwnTroubles {
			line(c.Upstream, c.Authority, fmt.Sprintf("%s of pid %d's own", count(int(min(n, 1<<40)), "trouble", "troubles"), pid))
		}
	}
}

// count is "1 upstream", "2 upstreams".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
