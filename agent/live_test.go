//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// An agent that cannot get at its own state is not live, and is again once it
// can.
func TestStuckAllocatorIsNotLive(t *testing.T) {
	dir := t.TempDir()
	ready := make(chan struct{})
	a := &Agent{
		Socket: dir + "/agent.sock", Ledger: dir + "/ledger",
		Load:  func() (*policies.Snapshot, error) { return policies.Compile(&policies.Set{Version: 1}) },
		Ready: func() { close(ready) },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	<-ready
	live := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return a.Live(ctx)
	}
	if err := live(10 * time.Second); err != nil {
		t.Errorf("an idle agent: %v", err)
	}
	a.mu.Lock()
	if err := live(50 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stuck agent: %v, want a deadline that passed", err)
	}
	a.mu.Unlock()
	if err := live(10 * time.Second); err != nil {
		t.Errorf("an agent that goes on: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := live(10 * time.Millisecond); err == nil {
		t.Error("an agent that has ended is live")
	}
}

// Trouble is logged once per user, kind and interval, and counted meanwhile.
func TestTroubleIsLoggedOnce(t *testing.T) {
	var q quiet
	now := time.Now()
	count := func(kind string, uid, times int, at time.Time) (logged, swallowed int) {
		for range times {
			ok, _, n := q.may(kind, uid, 1, at)
			if ok {
				logged++
				swallowed += n
			}
		}
		return logged, swallowed
	}
	if logged, _ := count("hello", 1, 1000, now); logged != 1 {
		t.Errorf("1000 at once: logged %d times, want 1", logged)
	}
	if logged, _ := count("hello", 2, 5, now); logged != 1 {
		t.Errorf("another user: logged %d times, want 1", logged)
	}
	if logged, _ := count("page", 1, 5, now); logged != 1 {
		t.Errorf("another kind: logged %d times, want 1", logged)
	}
	if logged, swallowed := count("hello", 1, 5, now.Add(quietFor)); logged != 1 || swallowed != 999 {
		t.Errorf("later: logged %d times with %d not logged, want 1 and 999", logged, swallowed)
	}
	said := ""
	for range 5 {
		ok, left, swallowed := q.may("circuit", 1, 3, now)
		said += fmt.Sprintln(ok, left, swallowed)
	}
	if ok, left, swallowed := q.may("circuit", 1, 3, now.Add(quietFor)); said != "true 2 0\ntrue 1 0\ntrue 0 0\nfalse 0 0\nfalse 0 0\n" || !ok || left != 2 || swallowed != 2 {
		t.Errorf("3 in an interval: %s later %v, %d left, %d not logged", said, ok, left, swallowed)
	}
	for uid := range 3 * maxQuiet {
		q.may("hello", uid, 1, now.Add(quietFor))
	}
	if len(q.said) > maxQuiet {
		t.Errorf("%d kinds and users are kept, at most %d are allowed", len(q.said), maxQuiet)
	}
	if ok, _, _ := q.may("hello", -7, 1, now.Add(3*quietFor)); !ok {
		t.Error("old users keep new ones from being logged")
	}
}

func TestHTTPTroubleIsLoggedOnce(t *testing.T) {
	var text strings.Builder
	a := &Agent{Logger: slog.New(slog.NewTextHandler(&text, nil))}
	l := a.server(nil).ErrorLog
	for range 100 {
		io.WriteString(l.Writer(), "http: Accept error: accept unix: too many open files; retrying in 5ms\n")
	}
	if n := strings.Count(text.String(), "\n"); n != 1 || !strings.Contains(text.String(), "too many open files") {
		t.Errorf("logged %d lines, want 1 that says why:\n%s", n, text.String())
	}
}
