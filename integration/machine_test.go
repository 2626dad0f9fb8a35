//go:build linux

package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// bootedEnv has a machine that cannot be booted fail the test, not skip it.
const bootedEnv = "BOOTED"

// release is the Debian that the package is tried on.
const release = "bookworm"

// machine is a container with a systemd of its own, and no network.
type machine struct {
	t      *testing.T
	root   string
	leader string // the pid of its systemd, here
}

// boot starts a machine. It ends with the test, and leaves nothing here.
func boot(t *testing.T) *machine {
	t.Helper()
	for _, needed := range []string{"systemd-nspawn", "mmdebstrap", "nsenter"} {
		_, err := exec.LookPath(needed)
		switch {
		case os.Geteuid() == 0 && err == nil:
		case os.Getenv(bootedEnv) != "":
			t.Fatalf("as root with %s=%s this needs %s: apt-get install systemd-container mmdebstrap", bootedEnv, os.Getenv(bootedEnv), needed)
		default:
			t.Skipf("NOT TESTED: the package in a booted systemd. It takes root (uid %d) and %s (%v): run make test as root on Debian", os.Geteuid(), needed, err)
		}
	}
	dir, err := os.MkdirTemp("", "ram")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{t: t, root: filepath.Join(dir, "root")}
	if err := os.Mkdir(m.root, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, exec.Command("tar", "-C", m.root, "-xf", debian(t)))

	console, err := os.Create(filepath.Join(dir, "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	nspawn := exec.Command("systemd-nspawn", "-q", "-D", m.root, "-b", "--register=no", "--keep-unit", "--private-network", "--console=pipe")
	nspawn.Stdout, nspawn.Stderr = console, console
	nspawn.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := nspawn.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && m.leader != "" {
			out, err := m.try("journalctl", "--no-pager", "-n", "60")
			t.Logf("the machine's journal (%v):\n%s", err, out)
		}
		if pid, err := strconv.Atoi(m.leader); err == nil {
			unix.Kill(pid, unix.SIGKILL) // and with it all that runs in the machine
		}
		nspawn.Process.Kill()
		nspawn.Wait()
	})
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", nspawn.Process.Pid)
	if !within(soon, func() bool {
		// The first child only makes the one that becomes the machine's systemd.
		text, _ := os.ReadFile(children)
		m.leader, _, _ = strings.Cut(strings.TrimSpace(string(text)), " ")
		if name, _ := os.ReadFile("/proc/" + m.leader + "/comm"); string(name) != "systemd\n" {
			return false
		}
		state, _ := m.try("systemctl", "is-system-running")
		return state == "running\n" || state == "degraded\n"
	}) {
		text, _ := os.ReadFile(console.Name())
		t.Fatalf("no systemd within %v; its console:\n%s", soon, text)
	}
	return m
}

// debian is the tar of a small Debian with systemd, made once for this user.
func debian(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(cache, "resagent-test", release+".tar")
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	made := fmt.Sprintf("%s.%d.tar", name, os.Getpid())
	defer os.Remove(made)
	must(t, exec.Command("mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,systemd-sysv,dbus,procps", release, made))
	if err := os.Rename(made, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// must runs a command that has to succeed.
func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// command is a command in the machine, as its root or, with who, as that uid
// and gid.
func (m *machine) command(ctx context.Context, who []string, args ...string) *exec.Cmd {
	all := append([]string{"-t", m.leader, "-a"}, who...)
	all = append(all, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive")
	return exec.CommandContext(ctx, "nsenter", append(all, args...)...)
}

func (m *machine) try(args ...string) (string, error) { return m.tryAs(nil, args...) }

func (m *machine) tryAs(who []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	defer cancel()
	var out bytes.Buffer
	cmd := m.command(ctx, who, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// run is a command that has to succeed.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("in the machine: %q: %v\n%s", args, err, out)
	}
	return out
}

// property is what systemd says of the service.
func (m *machine) property(name string) string {
	out, _ := m.try("systemctl", "show", "--value", "-p", name, "resagent.service")
	return strings.TrimSpace(out)
}

// write makes a file in the machine, in one step, as an editor does.
func (m *machine) write(path, text string) {
	m.t.Helper()
	name := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(name+".new", []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		m.t.Fatal(err)
	}
}

// upstream is a server on the machine's own loopback.
func (m *machine) upstream(server *httptest.Server) {
	m.t.Helper()
	failed := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with this goroutine, and nobody
		// else comes into the machine's network.
		runtime.LockOSThread()
		failed <- func() error {
			ns, err := os.Open("/proc/" + m.leader + "/ns/net")
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			server.Listener.Close()
			server.Listener, err = net.Listen("tcp", "127.0.0.1:0")
			return err
		}()
	}()
	if err := <-failed; err != nil {
		m.t.Fatalf("a listener in the machine: %v", err)
	}
	server.Start()
	m.t.Cleanup(server.Close)
}

// worker starts a client in the machine that calls only once it has the
// agent's policies; uid and gid are its user and group.
func (m *machine) worker(uid, gid string) *worker {
	m.t.Helper()
	w := &worker{t: m.t, name: fmt.Sprint(workers.Add(1)), done: make(chan struct{})}
	w.cmd = m.command(context.Background(), []string{"-S", uid, "-G", gid},
		workerEnv+"="+w.name, "GORACE=atexit_sleep_ms=0", "/worker")
	w.begin()
	w.order(order{Attach: true})
	return w
}
