package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// Exit codes of exec beside those of the command, as of env(1) and sysexits.h.
const (
	exitNoPermit   = 75 // EX_TEMPFAIL: try again later
	exitCannotRun  = 126
	exitNotFound   = 127
	attachPatience = 5 * time.Second
	policyWait     = time.Duration(-1) // the policy's max_wait
)

// execute is `resagent exec`: it takes one permit of the upstream's bulkhead
// and becomes the command. The command keeps the write end of the life pipe,
// by which the agent knows that the permit is in use, and the process id, so
// signals and the exit status are the command's own.
func execute(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket := socketFlag(fs)
	wait := fs.Duration("wait", 0, "wait this long for a permit, such as 30s (default the policy's max_wait)")
	fs.SetInterspersed(false)
	if err := parse(fs, args, 2, -1); err != nil {
		return err
	}
	if fs.ArgsLenAtDash() == 0 {
		return usageError{fmt.Errorf("the upstream is missing: write it before --, as in resagent exec UPSTREAM -- %s", strings.Join(fs.Args(), " "))}
	}
	if !fs.Changed("wait") {
		*wait = policyWait
	} else if *wait < 0 {
		return usageError{fmt.Errorf("--wait %v is below zero; write how long to wait, such as 30s, or 0s not to wait", *wait)}
	}
	name, command := fs.Arg(0), fs.Args()[1:]
	if command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return usageError{errors.New("no command is given; see resagent exec --help")}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		code := exitNotFound
		if errors.Is(err, os.ErrPermission) {
			code = exitCannotRun
		}
		hint := ""
		if strings.HasPrefix(command[0], "-") {
			hint = "; an option stands before the upstream, as in resagent exec --wait 30s UPSTREAM -- COMMAND"
		}
		return exitError{fmt.Errorf("cannot run %q: %w%s", command[0], err, hint), code}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	session := &client.Session{Socket: *socket}
	permit, err := hostPermit(ctx, session, *socket, name, *wait)
	if err != nil {
		session.Close()
		return err
	}
	stop()
	if err = session.Inherit(); err == nil {
		err = syscall.Exec(path, command, os.Environ())
	}
	permit.Release()
	session.Close()
	return exitError{fmt.Errorf("cannot run %s: %w", path, err), exitCannotRun}
}

// hostPermit attaches to the agent and takes a permit that all processes of
// the host count.
func hostPermit(ctx context.Context, s *client.Session, socket, name string, wait time.Duration) (client.Permit, error) {
	upstream, err := upstreamOf(ctx, s, socket, name)
	if err != nil {
		return client.Permit{}, err
	}
	policy := upstream.Policy
	if policy.Bulkhead == nil {
		return client.Permit{}, fmt.Errorf("upstream %s has no bulkhead, so there is nothing to hold; give it one: bulkhead: {max_concurrent: N}", name)
	}
	if policy.Bulkhead.Scope == policies.ScopeProcess {
		return client.Permit{}, fmt.Errorf("the bulkhead of upstream %s is each process's own; write scope: host to share it", name)
	}
	bulkhead := *policy.Bulkhead
	bulkhead.MaxWaiting = max(1, bulkhead.MaxWaiting)
	if wait >= 0 {
		bulkhead.MaxWait = wait
	}
	// Only a permit that the agent counts is worth having here.
	policy.Bulkhead, policy.OnAgentLoss = &bulkhead, policies.LossStrict
	permit, err := s.Limits(name, &policy).Acquire(ctx)
	switch {
	case err != nil:
		return permit, exitError{fmt.Errorf("no permit of %s within %v: %w; see resagent status, or wait longer with --wait", name, bulkhead.MaxWait, err), exitNoPermit}
	case !permit.Shared():
		permit.Release()
		return permit, exitError{fmt.Errorf("the agent at %s went away while the permit of %s was taken; try again", socket, name), exitNoPermit}
	}
	return permit, nil
}

// noSession says why the process has none that counts for the host.
func noSession(s *client.Session, socket string) error {
	if err := s.Err(); err != nil {
		return fmt.Errorf("the agent at %s takes no session of this process: %w", socket, err)
	}
	if s.Mode() == client.Policing {
		return fmt.Errorf("this process can share no memory with the agent at %s, so there are no limits of the host for it", socket)
	}
	return fmt.Errorf("the agent at %s has made no session within %v; see systemctl status resagent.service", socket, attachPatience)
}

// upstreamOf waits for the agent's policies and finds the upstream in them.
func upstreamOf(ctx context.Context, s *client.Session, socket, name string) (*policies.Upstream, error) {
	if _, err := call(ctx, socket, "GET", "/healthz"); err != nil {
		return nil, err // with the reason, and what to look at
	}
	for end := time.Now().Add(attachPatience); s.Policies() == nil || s.Mode() != client.Attached; {
		if time.Now().After(end) {
			return nil, noSession(s, socket)
		}
		s.Attach(ctx)
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if u := s.Policies().Named(name); u != nil {
		return u, nil
	}
	var names []string
	for _, u := range s.Policies().Upstreams() {
		names = append(names, u.Name)
	}
	return nil, fmt.Errorf("no upstream is called %q%s; resagent status shows those in use", name, didYouMean(name, names))
}
