package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/resagent/resagent/agent"
)

// feedWatchdog tells systemd at half the time it asks for that the allocator
// works, and shows in `systemctl status` what the agent does. An agent that is
// stuck feeds nothing, and is aborted: see sd_watchdog_enabled(3).
func feedWatchdog(ctx context.Context, a *agent.Agent) {
	every := watchdogEvery(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"))
	if every == 0 {
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if live(ctx, a, every) {
			notify("WATCHDOG=1\nSTATUS=" + statusText(a))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func live(ctx context.Context, a *agent.Agent, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return a.Live(ctx) == nil
}

// watchdogEvery is half of what systemd asks for; 0 where it asks for nothing,
// or somebody else.
func watchdogEvery(usec, pid string) time.Duration {
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return time.Duration(n) * time.Microsecond / 2
}

// statusText is the line that `systemctl status` shows.
func statusText(a *agent.Agent) string {
	s := a.Status()
	text := fmt.Sprintf("serving %s to %s, generation %d", count(s.Named, "upstream", "upstreams"),
		count(len(s.Sessions), "process", "processes"), s.Generation)
	if s.Refused != "" {
		text += "; the last reload was refused"
	}
	return text
}
