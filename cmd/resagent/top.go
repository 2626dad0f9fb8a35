package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent"
)

const (
	leastInterval = 100 * time.Millisecond
	mostInterval  = time.Hour
)

// top is `resagent top`: on a terminal live, until q; elsewhere frames.
func top(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket := socketFlag(fs)
	interval := fs.Duration("interval", 2*time.Second, "the time between two frames, 100ms to 1h")
	frames := fs.IntP("frames", "n", 0, "end after this `NUMBER` of frames; 0: live on a terminal, one frame elsewhere")
	once := fs.Bool("once", false, "print one frame, without keys; the same as --frames 1")
	processes := fs.BoolP("processes", "p", false, "begin with the list of processes; p goes to and fro")
	noColor := fs.Bool("no-color", false, "do not colour; nor is it done where NO_COLOR is set, or TERM is dumb")
	asJSON := fs.Bool("json", false, "print each frame as a line of JSON, as status does")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *interval < leastInterval || *interval > mostInterval:
		return usageError{fmt.Errorf("--interval %v: write %v to %v", *interval, leastInterval, mostInterval)}
	case *frames < 0:
		return usageError{fmt.Errorf("--frames %d: write 1 or more", *frames)}
	case *once && *frames > 1:
		return usageError{errors.New("--once and --frames: write one of them")}
	}
	m := newTopModel(*socket, *interval)
	m.processes = *processes
	l := &topRun{
		topModel: m, colour: coloured(os.Stdout, *noColor),
		ask: func(ctx context.Context, processes int) (agent.Status, error) {
			body, err := call(ctx, *socket, "GET", fmt.Sprintf("/v1/status?processes=%d", processes))
			if err != nil {
				return agent.Status{}, err
			}
			return parseStatus(body)
		},
	}
	if *asJSON {
		return jsonFrames(ctx, *socket, max(1, *frames), *interval)
	}
	if *once || *frames > 0 || !isTerminal(os.Stdout) || !isTerminal(os.Stdin) || os.Getenv("TERM") == "" {
		return l.print(ctx, max(1, *frames))
	}
	l.terminal = terminal{in: os.Stdin, out: os.Stdout}
	return l.run(ctx)
}

// topRun is top at work: the model, its terminal, and where answers come from.
type topRun struct {
	*topModel
	terminal
	colour bool
	ask    func(ctx context.Context, processes int) (agent.Status, error)
}

// The number of processes of each upstream that are asked for: more where they
// are what is shown.
const (
	fewProcesses  = 5
	manyProcesses = 4096
)

func (l *topRun) next(ctx context.Context) (agent.Status, error) {
	if l.processes {
		return l.ask(ctx, manyProcesses)
	}
	return l.ask(ctx, fewProcesses)
}

// print writes frames one below the other.
func (l *topRun) print(ctx context.Context, frames int) error {
	for i := range frames {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(l.interval):
			}
			fmt.Fprintln(stdout)
		}
		s, err := l.next(ctx)
		if err == nil && i == 0 && !hasRecent(s) {
			l.take(s, time.Now())
			time.Sleep(lookAgain)
			s, err = l.next(ctx)
		}
		switch {
		case err != nil && i == 0:
			return err
		case err != nil:
			l.fail(err, time.Now())
		default:
			l.take(s, time.Now())
		}
		width, _ := window(os.Stdout)
		for _, row := range l.screen(width, 0, time.Now()) {
			if _, err := fmt.Fprintln(stdout, row.text(l.colour)); err != nil {
				return err
			}
		}
	}
	return nil
}

// jsonFrames prints what the agent says, a line for each frame.
func jsonFrames(ctx context.Context, socket string, frames int, interval time.Duration) error {
	for i := range frames {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(interval):
			}
		}
		body, err := call(ctx, socket, "GET", fmt.Sprintf("/v1/status?processes=%d", manyProcesses))
		if err != nil {
			return err
		}
		var row bytes.Buffer
		if err := json.Compact(&row, body); err != nil {
			return fmt.Errorf("the agent's answer to status is not understood: %w; is it of another version?", err)
		}
		if _, err := fmt.Fprintln(stdout, row.String()); err != nil {
			return err
		}
	}
	return nil
}
