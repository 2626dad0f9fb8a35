package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

const (
	demoDuration = 42 * time.Second
	demoShortest = 20 * time.Second
	demoLongest  = 55 * time.Second
)

// demo is `resagent demo`: the product at work on real processes and sockets,
// and what it promises against what the upstream counted.
//
// The same command, with hidden flags, is the demo's other processes.
func demo(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	seed := fs.Uint64("seed", 0, "the `NUMBER` that decides all that is left to chance (default: drawn)")
	asJSON := fs.Bool("json", false, "print the result as JSON; the log goes to standard error")
	duration := fs.Duration("duration", demoDuration, "about how long it takes, from 20s to 55s")
	scope := fs.String("scope", "host", "who shares the limits, `SCOPE` is host, or process to see which promises break without an agent's limits")
	role := fs.String("role", "", "")
	tapePath := fs.String("tape", "", "")
	base := fs.String("base", "", "")
	index := fs.Int("index", 0, "")
	for _, hidden := range []string{"role", "tape", "base", "index"} {
		fs.Lookup(hidden).Hidden = true
	}
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch *role {
	case "upstream", "dead":
		return runUpstream(ctx, *tapePath, *role == "dead")
	case "worker":
		return runWorker(ctx, *tapePath, *base, *index, *seed)
	}
	if *duration < demoShortest || *duration > demoLongest {
		return usageError{fmt.Errorf("--duration is %v: write one from %v to %v", *duration, demoShortest, demoLongest)}
	}
	if *scope != "host" && *scope != "process" {
		return usageError{fmt.Errorf("--scope is %q: write host or process", *scope)}
	}
	if !fs.Changed("seed") {
		*seed = uint64(rand.Uint32())
	}

	// The children end with the thread that started them: it must not end
	// before the demo does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var out io.Writer = os.Stdout
	if *asJSON {
		out = os.Stderr
	}
	s, err := newStage(*seed, *scope)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer s.clear()
	p := &play{stage: s, plan: planFor(*duration), random: rand.New(rand.NewPCG(*seed, 0))}
	p.view = newView(out, p, isTerminal(out))
	err = p.perform(ctx)
	p.view.close()
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted; nothing is left behind")
		}
		return fmt.Errorf("demo: %w", err)
	}
	result, err := p.result(*seed, *scope)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if !*asJSON {
		result.print(stdout)
	} else {
		result.print(os.Stderr)
		text, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, string(text))
	}
	if n := result.broken(); n > 0 {
		return fmt.Errorf("demo: %s broken, see above; run it again with --seed %d", count(n, "promise is", "promises are"), *seed)
	}
	return nil
}
