package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/resagent/resagent/agent"
)

// answer is what came of asking the agent.
type answer struct {
	status agent.Status
	err    error
	panic  any
}

// run is top on a terminal. The first answer must come; after that the agent
// may go and come back.
func (l *topRun) run(ctx context.Context) (err error) {
	s, err := l.next(ctx)
	if err != nil {
		return err
	}
	l.take(s, time.Now())
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	defer l.close()
	if err := l.open(); err != nil {
		return err
	}
	typed := make(chan string)
	go l.readTo(typed)
	answers := make(chan answer, 1)
	asking := false
	ask := func() {
		if asking || l.paused {
			return
		}
		asking = true
		n := fewProcesses
		if l.processes {
			n = manyProcesses
		}
		go func() {
			a := answer{}
			defer func() {
				a.panic = recover() // it is the main goroutine that restores the terminal
				answers <- a
			}()
			a.status, a.err = l.ask(ctx, n)
		}()
	}
	due := time.NewTicker(l.interval)
	defer due.Stop()
	clock := time.NewTicker(min(l.interval, time.Second)) // for the times that pass
	defer clock.Stop()
	first := time.After(lookAgain) // when the agent can say what happens now
	rest := ""
	for {
		width, height := window(l.out)
		var rows []string
		for _, row := range l.screen(max(1, width), max(1, height), time.Now()) {
			rows = append(rows, row.text(l.colour))
		}
		if err := l.draw(rows); err != nil {
			return fmt.Errorf("top: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-clock.C:
		case <-first:
			ask()
		case <-due.C:
			ask()
		case a := <-answers:
			asking = false
			switch {
			case a.panic != nil:
				panic(a.panic)
			case a.err != nil:
				l.fail(a.err, time.Now())
			case !l.paused:
				l.take(a.status, time.Now())
			}
		case text, ok := <-typed:
			if !ok {
				return nil // the terminal is gone
			}
			var keys []string
			keys, rest = keysOf(rest + text)
			for _, k := range keys {
				if k == "redraw" {
					l.last = nil
				}
				if l.key(k) {
					return nil
				}
				if k == "p" {
					ask()
				}
			}
		case s := <-signals:
			if ended, err := l.obey(s); ended || err != nil {
				return err
			}
		}
	}
}

// readTo sends what is typed; it closes the channel when the terminal is gone.
// Where top has ended it is left waiting, as the command ends too.
func (l *topRun) readTo(typed chan<- string) {
	defer close(typed)
	for buffer := make([]byte, 256); ; {
		n, err := l.in.Read(buffer)
		if err != nil {
			return
		}
		typed <- string(buffer[:n])
	}
}

// obey does what a signal asks for; true: end.
func (l *topRun) obey(s os.Signal) (ended bool, err error) {
	switch s {
	case syscall.SIGWINCH:
		l.last = nil
	case syscall.SIGTSTP:
		return false, l.suspend()
	case syscall.SIGCONT: // the shell may have changed the terminal
		return false, l.open()
	default:
		l.close()
		dieOf(s)
		return true, nil
	}
	return false, nil
}
