package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/resagent/resagent/policies"
)

const (
	// firstPause and mostPause bound how long a start that failed again stays
	// before it exits.
	firstPause = 100 * time.Millisecond
	mostPause  = 10 * time.Second
	// lookEvery is how often it looks meanwhile whether the files were mended.
	lookEvery = 250 * time.Millisecond
)

// failedStarts counts starts that came to nothing, in a file beside the
// ledger. systemd 252 restarts at one and the same interval (RestartSteps came
// with 254), which must be short for an agent that was killed; for one that
// cannot start the delay grows here. The first failure exits at once, so that
// `systemctl start` tells of it.
type failedStarts struct{ path string }

type startRecord struct {
	Failures int    `json:"failures"`
	Reason   string `json:"reason"`
}

// startPause is how long the nth failed start in a row stays, n from 1.
func startPause(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return min(mostPause, firstPause<<min(n-2, 10))
}

// failed counts one more, and stays until the pause is over, ctx ends, or the
// policies that were the reason can be read. What was said before is not
// logged again.
func (f failedStarts) failed(ctx context.Context, log *slog.Logger, why error, load func() (*policies.Snapshot, error)) {
	var before startRecord
	if data, err := os.ReadFile(f.path); err == nil && json.Unmarshal(data, &before) != nil {
		before = startRecord{}
	}
	now := startRecord{Failures: before.Failures + 1, Reason: why.Error()}
	if data, err := json.Marshal(now); err == nil {
		if err := f.write(data); err != nil {
			log.Warn("failed starts cannot be counted; restarts will not slow down", "reason", err)
		}
	}
	first, _, _ := strings.Cut(why.Error(), "\n")
	notify("STATUS=not started: " + printable(first))
	stay := startPause(now.Failures)
	if stay == 0 {
		return
	}
	log.Error("start failed again", "times", now.Failures, "exit_in", stay, "reason", first)
	end := time.NewTimer(stay)
	defer end.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	policy := errors.As(why, new(policies.Errors))
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-look.C:
			if policy {
				if _, err := load(); err == nil {
					return
				}
			}
		}
	}
}

// write replaces the file. What somebody linked there is not written to.
func (f failedStarts) write(data []byte) error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return cmp.Or(err, file.Close())
}

// clear forgets: the agent serves.
func (f failedStarts) clear() { os.Remove(f.path) }
