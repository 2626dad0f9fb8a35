package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deadline is for what must come, on the slowest machine.
const deadline = 30 * time.Second

// service is `resagent serve` as systemd would run it, in a folder of its own.
type service struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	notify *net.UnixConn // nil: systemd does not ask
}

func newService(t *testing.T, policies string) *service {
	t.Helper()
	dir, err := os.MkdirTemp("", "ra")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &service{t: t, dir: dir}
	s.write(policies)
	s.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.notify.Close() })
	// LISTEN_PID must be the pid of the process that gets the sockets.
	s.cmd = exec.Command("sh", "-c", `LISTEN_PID=$$ exec resagent serve --policies "$0/p.yaml" --ledger "$0/ledger"`, dir)
	s.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "RESAGENT_SOCKET="+filepath.Join(dir, "agent.sock"), "GORACE=atexit_sleep_ms=0")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	s.cmd.Stderr = log
	return s
}

// log is what the service has written so far.
func (s *service) log() string {
	data, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Error(err)
	}
	return string(data)
}

func (s *service) write(policies string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "p.yaml"), []byte(policies), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) start() {
	s.t.Helper()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	})
}

// told waits for what the service tells systemd next.
func (s *service) told() string {
	s.t.Helper()
	buffer := make([]byte, 4096)
	s.notify.SetReadDeadline(time.Now().Add(deadline))
	n, err := s.notify.Read(buffer)
	if err != nil {
		s.t.Fatalf("the service says nothing more: %v; its log:\n%s", err, s.log())
	}
	return string(buffer[:n])
}

func (s *service) expect(pattern string) {
	s.t.Helper()
	if got := s.told(); !regexp.MustCompile(`(?s)^` + pattern + `$`).MatchString(got) {
		s.t.Fatalf("the service told systemd %q, want %s", got, pattern)
	}
}

func (s *service) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) get(path string) (string, error) {
	body, err := call(context.Background(), filepath.Join(s.dir, "agent.sock"), "GET", path)
	return string(body), err
}

const (
	onePolicy   = "version: 1\nupstreams: {a: {match: [{host: a}]}}\n"
	otherPolicy = "version: 1\nupstreams: {a: {match: [{host: a}]}, b: {match: [{host: b}]}}\n"
	badPolicy   = "version: 1\nupstreams: {a: {match: [{hsot: a}]}}\n"
)

func TestServiceTellsSystemd(t *testing.T) {
	s := newService(t, onePolicy)
	s.start()
	s.expect(`READY=1\nSTATUS=serving \d upstreams? to \d process(es)?, generation \d`)
	if _, err := s.get("/healthz"); err != nil {
		t.Errorf("READY, and yet: %v", err)
	}

	s.write(otherPolicy)
	s.signal(syscall.SIGHUP)
	s.expect(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	s.expect(`READY=1\nSTATUS=serving \d upstreams? to \d process(es)?, generation \d`)
	if body, err := s.get("/v1/explain?method=GET&url=http://b/"); err != nil || !strings.Contains(body, `"upstream": "b"`) {
		t.Errorf("after READY the new policy is not in force: %v %s", err, body)
	}

	s.write(badPolicy)
	s.signal(syscall.SIGHUP)
	s.expect(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	s.expect(`READY=1\nSTATUS=serving 2 upstreams to 0 processes, generation 2; the last reload was refused`)
	if body, err := s.get("/v1/explain?method=GET&url=http://b/"); err != nil || !strings.Contains(body, `"upstream": "b"`) {
		t.Errorf("after a refused reload the old policy is not in force: %v %s", err, body)
	}

	s.signal(syscall.SIGTERM)
	s.expect("STOPPING=1\nSTATUS=stopping")
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if log := s.log(); !strings.Contains(log, "hsot") || !strings.Contains(log, "p.yaml:2:") {
		t.Errorf("the log does not say why the reload was refused:\n%s", log)
	}
}

func TestServiceWithBadPoliciesIsNeverReady(t *testing.T) {
	s := newService(t, badPolicy)
	s.start()
	exit := new(exec.ExitError)
	if err := s.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("serve ended with %v, want exit code 1", err)
	}
	s.expect(`STATUS=not started: .*p.yaml:2:.*`)
	s.notify.SetReadDeadline(time.Now())
	if n, err := s.notify.Read(make([]byte, 10)); err == nil {
		t.Errorf("it told systemd more, %d bytes", n)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "agent.sock")); err == nil {
		t.Error("there is a socket")
	}
	if !strings.Contains(s.log(), "p.yaml:2:") {
		t.Errorf("the log does not say where the mistake is:\n%s", s.log())
	}
}

// passed opens a socket as a systemd socket unit would.
func passed(t *testing.T, path string) *os.File {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The sockets come by name, in any order; a stop leaves them to systemd.
func TestServiceTakesSocketsFromSystemd(t *testing.T) {
	s := newService(t, onePolicy)
	agentPath, adminPath := filepath.Join(s.dir, "a"), filepath.Join(s.dir, "b")
	s.cmd.ExtraFiles = []*os.File{passed(t, adminPath), passed(t, agentPath)}
	s.cmd.Env = append(s.cmd.Env, "LISTEN_FDS=2", "LISTEN_FDNAMES=admin:agent")
	// A caller may come before the service: that is what activation is for.
	early, err := net.Dial("unix", agentPath)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	if _, err := early.Write([]byte("GET /healthz HTTP/1.1\r\nHost: resagent\r\nConnection: close\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.expect(`READY=1\nSTATUS=serving \d upstreams? to \d process(es)?, generation \d`)
	early.SetReadDeadline(time.Now().Add(deadline))
	answer := make([]byte, 64)
	if n, err := early.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200") {
		t.Errorf("the early caller got %q, %v", answer[:n], err)
	}
	if _, err := call(t.Context(), adminPath, "POST", "/v1/reload"); err != nil {
		t.Errorf("admin socket: %v", err)
	}
	_, err = call(t.Context(), agentPath, "POST", "/v1/reload")
	if no := new(problem); !errors.As(err, &no) {
		t.Error("the agent's socket takes changes")
	}
	s.signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{agentPath, adminPath} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("it removed a socket of systemd: %v", err)
		}
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "agent.sock")); err == nil {
		t.Error("it made a socket of its own beside the one of systemd")
	}
}

func TestServiceRefusesUnknownSockets(t *testing.T) {
	for names, says := range map[string]string{
		"resagent.socket": `"resagent.socket".*FileDescriptorName=agent and =admin`,
		"agent:agent":     `"agent".*FileDescriptorName`,
	} {
		s := newService(t, onePolicy)
		s.cmd.ExtraFiles = []*os.File{passed(t, filepath.Join(s.dir, "a")), passed(t, filepath.Join(s.dir, "b"))}
		s.cmd.Env = append(s.cmd.Env, "LISTEN_FDS=2", "LISTEN_FDNAMES="+names)
		s.start()
		if err := s.cmd.Wait(); err == nil {
			t.Errorf("%s: serve ran", names)
		}
		if !regexp.MustCompile(says).MatchString(s.log()) {
			t.Errorf("%s: the log does not match %s:\n%s", names, says, s.log())
		}
	}
}

// What systemd's watchdog is fed by, and where the operator sees what runs.
func TestServiceFeedsTheWatchdog(t *testing.T) {
	s := newService(t, onePolicy)
	s.cmd.Env = append(s.cmd.Env, "WATCHDOG_USEC=200000")
	s.start()
	s.expect(`READY=1.*`)
	for range 3 {
		s.expect(`WATCHDOG=1\nSTATUS=serving 1 upstream to 0 processes, generation 1`)
	}
	s.signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWatchdogIsForUs(t *testing.T) {
	for _, one := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"x", "", 0}, {"-1", "", 0}, {"10000000", "", 5 * time.Second},
		{"10000000", "1", 0}, {"10000000", strconv.Itoa(os.Getpid()), 5 * time.Second},
	} {
		if got := watchdogEvery(one.usec, one.pid); got != one.want {
			t.Errorf("WATCHDOG_USEC=%q WATCHDOG_PID=%q: %v, want %v", one.usec, one.pid, got, one.want)
		}
	}
}

// A start that fails again stays longer each time, but not once the files are
// mended; the count ends with a start that comes about.
func TestServiceSlowsFailingStarts(t *testing.T) {
	again := func(s *service) *service {
		next := newService(t, badPolicy)
		next.cmd.Args[len(next.cmd.Args)-1] = s.dir
		next.dir = s.dir
		return next
	}
	s := newService(t, badPolicy)
	for i := range 4 {
		if i > 0 {
			s = again(s)
		}
		began := time.Now()
		s.start()
		s.expect(`STATUS=not started: .*`)
		if err := s.cmd.Wait(); err == nil {
			t.Fatal("it served")
		}
		if took := time.Since(began); took < startPause(i+1) {
			t.Errorf("start %d exited after %v, want at least %v", i+1, took, startPause(i+1))
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "ledger.starts"), []byte(`{"failures": 1000}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = again(s)
	began := time.Now()
	s.start()
	s.expect(`STATUS=not started: .*`)
	s.write(onePolicy)
	s.cmd.Wait()
	if took := time.Since(began); took >= mostPause {
		t.Errorf("with mended files it still stayed %v", took)
	}
	s = again(s)
	s.start()
	s.expect(`READY=1.*`)
	if _, err := os.Stat(filepath.Join(s.dir, "ledger.starts")); err == nil {
		t.Error("a start that came about does not end the count")
	}
}
