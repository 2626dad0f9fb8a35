package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent"
)

// pseudoTerminal opens one: the end that a program has, and ours.
func pseudoTerminal(t *testing.T) (program, ours *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("NOT TESTED: there are no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	if err := unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	return program, ours
}

// However top ends, the terminal is as it was.
func TestTopRestoresTheTerminal(t *testing.T) {
	for name, one := range map[string]struct {
		ask   func(n int) (agent.Status, error) // the n-th time, from 1
		typed string
		ends  string // with this panic
	}{
		"q":              {func(int) (agent.Status, error) { return busyStatus(), nil }, "q", ""},
		"a panic":        {func(n int) (agent.Status, error) { return busyStatus(), panicAt(2, n) }, "p", "planted"},
		"a mad terminal": {func(int) (agent.Status, error) { return busyStatus(), nil }, "\x1b[\xff\x00" + strings.Repeat("\x1b[9", 50) + "~qqq", ""},
		"no answer":      {func(n int) (agent.Status, error) { return busyStatus(), errAt(2, n) }, "ppq", ""},
	} {
		t.Run(name, func(t *testing.T) {
			program, ours := pseudoTerminal(t)
			var mu sync.Mutex
			var drawn strings.Builder
			go func() {
				for buffer := make([]byte, 4096); ; {
					n, err := ours.Read(buffer)
					if err != nil {
						return
					}
					mu.Lock()
					drawn.Write(buffer[:n])
					mu.Unlock()
				}
			}()
			has := func(text string) bool {
				mu.Lock()
				defer mu.Unlock()
				return strings.Contains(drawn.String(), text)
			}
			before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			top := &topRun{
				topModel: newTopModel("s", leastInterval), terminal: terminal{in: program, out: program},
				ask: func(context.Context, int) (agent.Status, error) { asked++; return one.ask(asked) },
			}
			ended := make(chan any, 1)
			go func() {
				defer func() { ended <- recover() }()
				if err := top.run(t.Context()); err != nil {
					t.Errorf("it ended with %v", err)
				}
			}()
			waitFor(t, "the first screen", func() bool { return has("q quit") })
			now, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil || now.Lflag&(unix.ICANON|unix.ECHO) != 0 || now.Lflag&unix.ISIG == 0 {
				t.Errorf("while it runs: %+v, %v; want keys as they are typed, no echo, and signals", now, err)
			}
			if _, err := io.WriteString(ours, one.typed); err != nil {
				t.Fatal(err)
			}
			select {
			case v := <-ended:
				if text := fmt.Sprint(v); v != nil && text != one.ends || v == nil && one.ends != "" {
					t.Errorf("it panicked with %v, want %q", v, one.ends)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it goes on")
			}
			after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("afterwards: %+v, %v; before: %+v", after, err, before)
			}
			waitFor(t, "the old screen", func() bool { return has(leaveScreen) })
		})
	}
}

func panicAt(n, at int) error {
	if at >= n {
		panic("planted")
	}
	return nil
}

func errAt(n, at int) error {
	if at >= n {
		return unreachable("s", syscall.ECONNREFUSED)
	}
	return nil
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 20 s: not yet %s", what)
		}
	}
}

// screenOf is a shell in a tmux of its own.
type screenOf struct {
	t      *testing.T
	socket string
}

func (s *screenOf) tmux(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", s.socket, "-f", "/dev/null"}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// shows is the rows of the screen, each after a line break.
func (s *screenOf) shows() string { return "\n" + s.tmux("capture-pane", "-p") }

func (s *screenOf) keys(keys ...string) {
	s.t.Helper()
	s.tmux(append([]string{"send-keys"}, keys...)...)
}

// wait is until the screen has all of the texts and none of those after "".
func (s *screenOf) wait(texts ...string) {
	s.t.Helper()
	last := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		last = s.shows()
		ok, want := true, true
		for _, text := range texts {
			if text == "" {
				want = false
				continue
			}
			ok = ok && strings.Contains(last, text) == want
		}
		if ok {
			return
		}
	}
	s.t.Fatalf("after 20 s the screen has not %q:\n%s", texts, last)
}

// top in a real terminal: keys, sizes, signals, an agent that goes and comes.
func TestTopInATerminal(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("NOT TESTED: top in a terminal. It needs tmux: apt-get install tmux")
	}
	bin := resagentFor(t)
	dir := filepath.Dir(bin)
	policy := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(policy, []byte("version: 1\nupstreams: {pay: {match: [{host: pay}], bulkhead: {max_concurrent: 64}}, search: {match: [{host: search}]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "RESAGENT_SOCKET="+filepath.Join(dir, "agent.sock"), "ENV=", "TERM=xterm", "NO_COLOR=", "GORACE=atexit_sleep_ms=0")
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(bin, args...)
		cmd.Env, cmd.SysProcAttr = env, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	serve := func() *exec.Cmd {
		cmd := run("serve", "--policies", policy, "--ledger", filepath.Join(dir, "ledger"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if out, err := run("status", "--wait", "10s").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return cmd
	}
	running := serve()
	defer func() { running.Process.Kill(); running.Wait() }()
	holder := run("exec", "pay", "--", "sleep", "100")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { holder.Process.Kill(); holder.Wait() }()
	if out, err := run("breaker", "search", "open", "--for", "10m", "--reason", "moving it").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	s := &screenOf{t, filepath.Join(dir, "tmux")}
	shell := exec.Command("tmux", "-S", s.socket, "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh -i")
	shell.Env = env
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	defer exec.Command("tmux", "-S", s.socket, "kill-server").Run()
	settings := func(to string) string {
		path := filepath.Join(dir, to)
		os.Remove(path)
		s.keys("stty -g > "+path+".new; mv "+path+".new "+path, "Enter")
		var text []byte
		waitFor(t, "what stty says", func() (ok bool) { text, _ = os.ReadFile(path); return len(text) > 0 })
		return string(text)
	}
	s.keys("PS1='$ '; clear", "Enter")
	s.wait("\n$", "", "PS1")
	before := settings("before")
	begin := func() (pid int) {
		s.keys("clear; sh -c 'echo $$ > "+dir+"/pid; exec "+bin+" top --interval 200ms'", "Enter")
		s.wait("> search", "q quit", "pay ", "moving it")
		text, err := os.ReadFile(filepath.Join(dir, "pid"))
		if pid, _ = strconv.Atoi(strings.TrimSpace(string(text))); err != nil || pid == 0 {
			t.Fatalf("its pid: %v %q", err, text)
		}
		return pid
	}
	// ended is when the shell is back, with the terminal as it was.
	ended := func(how string) {
		t.Helper()
		s.wait("$", "", "q quit")
		if after := settings("after"); after != before {
			t.Errorf("%s: the terminal is %s, and was %s", how, after, before)
		}
	}

	pid := begin()
	for i, row := range strings.Split(s.shows(), "\n") {
		if columnsOf(row) > 80 {
			t.Errorf("row %d has %d columns: %q", i, columnsOf(row), row)
		}
	}
	s.tmux("resize-window", "-x", "200", "-y", "30")
	s.wait("USED BY", "PROBE", "no process")
	s.tmux("resize-window", "-x", "40", "-y", "10")
	s.wait("> search", "", "USED BY", "PROBE")
	s.tmux("resize-window", "-x", "80", "-y", "24")
	s.keys("j")
	s.wait("> pay", "pay  used by sleep[")
	s.keys("p")
	s.wait("COMMAND", "sleep", "by IN USE")
	s.keys("p", "h")
	s.wait("any key goes back")
	s.keys("x", "Right")
	s.wait("by IN USE", "IN USE▾")
	s.keys("Left")
	s.wait("by STATE")
	s.keys("/", "s", "e", "a")
	s.wait("/sea_", "", "pay ")
	s.keys("Escape")
	s.wait("pay ")
	s.keys(" ")
	s.wait("PAUSED")
	s.keys(" ")
	s.wait("q quit", "", "PAUSED")

	// The agent goes, and comes back.
	running.Process.Kill()
	running.Wait()
	s.wait("NO ANSWER for", "cannot reach the agent", "> pay")
	running = serve()
	s.wait("q quit", "", "NO ANSWER")

	// Stopped by ^Z, by SIGTSTP and by SIGSTOP, and continued.
	s.keys("C-z")
	s.wait("topped", "$", "", "q quit")
	if settings("stopped") != before {
		t.Error("^Z: the terminal is not as it was")
	}
	s.keys("fg", "Enter")
	s.wait("q quit", "pay ")
	for stop, prompt := range map[syscall.Signal][]string{syscall.SIGTSTP: {"topped", "", "q quit"}, syscall.SIGSTOP: {"\n$"}} {
		if err := syscall.Kill(pid, stop); err != nil {
			t.Fatal(err)
		}
		s.wait(prompt...) // after SIGSTOP the shell writes over what is there
		s.keys("fg", "Enter")
		s.wait("q quit", "pay ", "", "\n$")
	}
	s.keys("q")
	ended("q")

	begin()
	s.keys("C-c")
	ended("^C")
	for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(begin(), end); err != nil {
			t.Fatal(err)
		}
		s.wait("\n$", "", "q quit")
		if end != syscall.SIGQUIT { // of which Go makes a dump and an exit code
			s.keys("echo status $?", "Enter")
			s.wait(fmt.Sprintf("\nstatus %d\n", 128+int(end)))
		}
		ended(end.String())
	}

	// A terminal on which nothing can be placed gets one frame.
	s.keys("clear; TERM=dumb "+bin+" top; echo over", "Enter")
	s.wait("\nover", "search", "", "q quit")
}
