package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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
	format, level := fs.String("log-format", "text", "the `FORMAT` of the log on standard error: text or json"),
		fs.String("log-level", "info", "the least `LEVEL` that is logged: debug, info, warn or error")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	logger, err := newLogger(os.Stderr, *format, *level)
	if err != nil {
		return err
	}
	agentListener, adminListener, err := activated()
	if err != nil {
		return err
	}
	admins := adminSocket(*admin, *socket)
	if agentListener == nil && adminListener == nil && samePath(admins, *socket) {
		return usageError{fmt.Errorf("--socket and --admin-socket are both %s: give each a path of its own, since only admins may make changes", *socket)}
	}

	a := &agent.Agent{
		Socket:        *socket,
		AdminSocket:   admins,
		Listener:      agentListener,
		AdminListener: adminListener,
		Ledger:        *ledger,
		Load:          files.loadAndFree,
		Logger:        logger,
	}

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, func() { notify("STOPPING=1\nSTATUS=stopping") })
	starts := failedStarts{path: *ledger + ".starts"}
	a.Ready = func() {
		starts.clear()
		notify("READY=1\nSTATUS=" + statusText(a))
		go reloadOn(ctx, hangups, a)
		go feedWatchdog(ctx, a)
	}
	err = a.Run(ctx)
	if err != nil && ctx.Err() == nil && os.Getenv("NOTIFY_SOCKET") != "" {
		starts.failed(ctx, logger, err, files.load)
	}
	return err
}

// samePath says whether two paths are written alike once they are absolute.
func samePath(a, b string) bool {
	from, err := filepath.Abs(a)
	to, err2 := filepath.Abs(b)
	return err == nil && err2 == nil && from == to
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
		a.Reload() // it logs how it went, and status says so
		notify("READY=1\nSTATUS=" + statusText(a))
	}
}
