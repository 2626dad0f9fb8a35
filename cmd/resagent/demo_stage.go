package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// stage is where the demo plays: a folder, a port, and the processes on them.
// Its methods are called by one goroutine, that of the thread the processes
// depend on.
type stage struct {
	seed     uint64
	scope    string
	dir      string
	listener *net.TCPListener // shared by all upstreams; the demo itself never accepts
	actors   []*actor
	fallen   chan *actor // those who ended without being asked to
}

// actor is one process of the demo.
type actor struct {
	name  string
	cmd   *exec.Cmd
	begin io.WriteCloser // its standard input
	tape  *tape          // nil: it writes none
	ended chan struct{}
	asked chan struct{} // closed when it is to end
}

func newStage(seed uint64, scope string) (*stage, error) {
	dir, err := os.MkdirTemp("", "resagent-demo")
	if err != nil {
		return nil, err
	}
	if len(dir) > 80 { // the path of a socket has 107 bytes
		os.Remove(dir)
		if dir, err = os.MkdirTemp("/tmp", "resagent-demo"); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if scope == "host" {
		scope = "" // as most policies have it
	}
	return &stage{seed: seed, scope: scope, dir: dir, listener: l.(*net.TCPListener), fallen: make(chan *actor, 1)}, nil
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }
func (s *stage) socket() string          { return s.path("agent.sock") }
func (s *stage) policies() string        { return s.path("policies.yaml") }

// command is this program again, with other arguments.
func (s *stage) command(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = os.Args[0] // by which a test binary knows what it is
	cmd.Env = slices.DeleteFunc(os.Environ(), func(one string) bool {
		name, _, _ := strings.Cut(one, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "RESAGENT_SOCKET"}, name)
	})
	cmd.Env = append(cmd.Env, "RESAGENT_SOCKET="+s.socket())
	// A terminal's ^C is the demo's alone: it clears the stage.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return cmd, nil
}

// start begins a process. What it writes to standard error is kept in the
// folder.
func (s *stage) start(name string, withTape bool, args ...string) (*actor, error) {
	a := &actor{name: name, ended: make(chan struct{}), asked: make(chan struct{})}
	if withTape {
		path := s.path(name + ".tape")
		var err error
		if a.tape, err = openTape(path); err != nil {
			return nil, err
		}
		args = append(args, "--tape", path)
	}
	var err error
	if a.cmd, err = s.command(args...); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(s.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	a.cmd.Stderr = log
	if a.begin, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "upstream") {
		shared, err := s.listener.File()
		if err != nil {
			return nil, err
		}
		defer shared.Close()
		a.cmd.ExtraFiles = []*os.File{shared}
	}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	s.actors = append(s.actors, a)
	go func() {
		a.cmd.Wait()
		close(a.ended)
		select {
		case <-a.asked:
		default:
			select {
			case s.fallen <- a:
			default: // one is enough to end the demo
			}
		}
	}()
	return a, nil
}

// kill ends a process without warning, and waits until it is gone.
func (a *actor) kill() {
	close(a.asked)
	a.cmd.Process.Kill()
	<-a.ended
}

func (a *actor) pid() int { return a.cmd.Process.Pid }

// serve tells an upstream to begin.
func (a *actor) serve() error {
	_, err := a.begin.Write([]byte("\n"))
	return err
}

// fell says that a process ended by itself, and its last words.
func (s *stage) fell(a *actor) error {
	said, _ := os.ReadFile(s.path(a.name + ".log"))
	if len(said) > 2000 {
		said = said[len(said)-2000:]
	}
	return fmt.Errorf("%s ended by itself (%v); it said:\n%s", a.name, a.cmd.ProcessState, said)
}

// run carries out one command to its end.
func (s *stage) run(ctx context.Context, args ...string) (string, error) {
	cmd, err := s.command(args...)
	if err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("resagent %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), ctx.Err()
}

// clear ends every process and removes every trace.
func (s *stage) clear() error {
	for _, a := range s.actors {
		select {
		case <-a.asked:
		default:
			a.kill()
		}
	}
	for _, a := range s.actors {
		if a.tape != nil {
			a.tape.close()
			a.tape = nil
		}
	}
	return errors.Join(s.listener.Close(), os.RemoveAll(s.dir))
}
