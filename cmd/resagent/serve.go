package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent"
)

// defaultLedger is on tmpfs, in a directory of its own (systemd/resagent.service).
const defaultLedger = "/run/resagent-ledger/ledger"

// serve is `resagent serve`: the agent, until SIGTERM or SIGINT. SIGHUP makes
// it read its policies again.
func serve(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	files := policyFlags(fs)
	socket, admin := socketFlag(fs), adminSocketFlag(fs)
	ledger := fs.String("ledger", defaultLedger, "the `PATH` of the ledger, which should be on tmpfs")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	agentListener, adminListener, err := activated()
	if err != nil {
		return err
	}

	a := &agent.Agent{
		Socket:        *socket,
		AdminSocket:   adminSocket(*admin, *socket),
		Listener:      agentListener,
		AdminListener: adminListener,
		Ledger:        *ledger,
		Load:          files.load,
		Logger:        slog.New(slog.NewTextHandler(os.Stderr, logOptions())),
	}

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, func() { notify("STOPPING=1\nSTATUS=stopping") })
	a.Ready = func() {
		notify("READY=1\nSTATUS=serving")
		go reloadOn(ctx, hangups, a)
	}
	return a.Run(ctx)
}

// reloadOn reloads at every signal until ctx ends. The agent logs how it went.
func reloadOn(ctx context.Context, hangups <-chan os.Signal, a *agent.Agent) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		notifyReloading()
		if _, err := a.Reload(); err != nil {
			notify("READY=1\nSTATUS=serving; the last reload was refused")
			continue
		}
		notify("READY=1\nSTATUS=serving")
	}
}

// logOptions leaves the time to the journal where the journal reads us.
func logOptions() *slog.HandlerOptions {
	if os.Getenv("JOURNAL_STREAM") == "" {
		return nil
	}
	return &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
}
