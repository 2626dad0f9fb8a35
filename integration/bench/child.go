package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

const (
	// childEnv makes this program one of several processes on a host: its value
	// is what to do, childArg's with what.
	childEnv = "RESAGENT_BENCH_CHILD"
	childArg = "RESAGENT_BENCH_ARG"
)

// child is the process.
func child() {
	var err error
	switch what := os.Getenv(childEnv); what {
	case "fight":
		var hold time.Duration
		if hold, err = time.ParseDuration(os.Getenv(childArg)); err == nil {
			err = fight(hold)
		}
	case "entry":
		err = entry()
	case "relay":
		err = relay()
	case "serve":
		err = serve()
	case "agent":
		err = serveAgent()
	case "attach":
		err = attachMany()
	case "idle":
		err = idle()
	default:
		err = fmt.Errorf("no child does %q", what)
	}
	if err != nil {
		fail(err)
	}
}

// idle has used the limit once, keeps an idle permit, and waits for its end.
func idle() error {
	h := &host{socket: wire.Socket()}
	s, err := h.session()
	if err != nil {
		return err
	}
	named := s.Policies().Named("upstream")
	p, err := s.Limits(named.Name, &named.Policy).Acquire(context.Background())
	if err != nil {
		return err
	}
	p.Release()
	fmt.Println() // ready
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// process is a child that has said that it is ready, or that begin waits for.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// spawn starts a child on the host.
func (h *host) spawn(what, arg string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return h.start(self, nil, what, arg)
}

func (h *host) start(program string, as *syscall.SysProcAttr, what, arg string) (*process, error) {
	p := &process{Cmd: exec.Command(program)}
	p.SysProcAttr = as
	return p, p.launch(what, arg, h.socket)
}

// launch starts a process of which the rest is said, and waits until it is
// ready.
func (p *process) launch(what, arg, socket string) error {
	p.Env = append(os.Environ(), childEnv+"="+what, childArg+"="+arg, wire.SocketEnv+"="+socket)
	p.Stderr = os.Stderr
	var err error
	if p.in, err = p.StdinPipe(); err != nil {
		return err
	}
	out, err := p.StdoutPipe()
	if err != nil {
		return err
	}
	p.out = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		return err
	}
	if _, err := p.out.ReadByte(); err != nil {
		p.kill()
		return fmt.Errorf("a child is not ready: %w", err)
	}
	return nil
}

// begin has the child do what it is for.
func (p *process) begin() error {
	_, err := p.in.Write([]byte{'\n'})
	return err
}

// kill ends the child, if it has not ended.
func (p *process) kill() {
	p.Process.Kill()
	p.Wait()
}

// end lets the child end by itself.
func (p *process) end() {
	p.in.Close()
	p.Wait()
}
