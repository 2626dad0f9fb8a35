//go:build linux

package agent_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent"
)

// socketPath is a path short enough for a socket, whatever the test's name.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ra")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "agent.sock")
}

// leaveStale leaves a socket at path that nobody listens on.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// wantError checks that err wraps want, names the path and says each of words.
func wantError(t *testing.T, err, want error, path string, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("Listen succeeded")
	}
	if !errors.Is(err, want) {
		t.Errorf("errors.Is(%v, %v) = false", err, want)
	}
	for _, w := range append(words, path) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q:\n%v", w, err)
		}
	}
}

// names lists the directory of path.
func names(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestListenSetsModeAgainstUmask(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o660, 0o666} {
		path := socketPath(t)
		l, err := agent.Listen(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != mode {
			t.Errorf("mode is %v, want %v", fi.Mode().Perm(), mode)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("nobody listens: %v", err)
		}
		c.Close()
		if got := names(t, path); len(got) != 1 {
			t.Errorf("more than the socket was left: %q", got)
		}
		l.Close()
		if err := agent.RemoveSocket(path); err != nil {
			t.Error(err)
		}
		if got := names(t, path); len(got) != 0 {
			t.Errorf("left after RemoveSocket: %q", got)
		}
	}
}

func TestListenReplacesStaleSocket(t *testing.T) {
	path := socketPath(t)
	leaveStale(t, path)
	l, err := agent.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestListenRefusesLiveSocket(t *testing.T) {
	path := socketPath(t)
	first, err := agent.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = agent.Listen(path, 0o600)
	wantError(t, err, agent.ErrSocketInUse, path, "pid", "choose another path")
}

func TestListenRefusesLiveSocketWithFullQueue(t *testing.T) {
	path := socketPath(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	queued, err := net.Dial("unix", path) // a backlog of 0 holds one
	if err != nil {
		t.Fatal(err)
	}
	defer queued.Close()
	_, err = agent.Listen(path, 0o600)
	wantError(t, err, agent.ErrSocketInUse, path)
}

func TestListenRefusesWhatIsNotASocket(t *testing.T) {
	for what, put := range map[string]func(path string) error{
		"a regular file":  func(p string) error { return os.WriteFile(p, []byte("keep"), 0o600) },
		"a directory":     func(p string) error { return os.Mkdir(p, 0o700) },
		"a symbolic link": func(p string) error { return os.Symlink("/nowhere", p) },
		"a special file":  func(p string) error { return unix.Mkfifo(p, 0o600) },
	} {
		path := socketPath(t)
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		_, err := agent.Listen(path, 0o600)
		wantError(t, err, fs.ErrExist, path, what, "move it away")
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s was removed: %v", what, err)
		}
	}
}

func TestListenRefusesImpossiblePaths(t *testing.T) {
	base := filepath.Dir(socketPath(t))
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
		says string
	}{
		{filepath.Join(base, strings.Repeat("x", 108-len(base)-1)), unix.ENAMETOOLONG, "108 bytes and a socket's path at most 107"},
		{filepath.Join(base, "missing", "agent.sock"), fs.ErrNotExist, "create " + filepath.Join(base, "missing")},
		{filepath.Join(file, "agent.sock"), unix.ENOTDIR, file},
	} {
		_, err := agent.Listen(c.path, 0o600)
		wantError(t, err, c.want, c.path, c.says)
	}
	for _, path := range []string{"", "@abstract", "/tmp/a\x00b"} {
		if _, err := agent.Listen(path, 0o600); err == nil {
			t.Errorf("Listen(%q) succeeded", path)
		}
	}
	longest := filepath.Join(base, strings.Repeat("x", 107-len(base)-1))
	l, err := agent.Listen(longest, 0o600)
	if err != nil {
		t.Fatalf("a path of 107 bytes: %v", err)
	}
	l.Close()
}

// A lock file that somebody planted as a link is not followed.
func TestListenDoesNotFollowLockLink(t *testing.T) {
	path := socketPath(t)
	target := path + ".target"
	if err := os.Symlink(target, path+".lock"); err != nil {
		t.Fatal(err)
	}
	_, err := agent.Listen(path, 0o600)
	wantError(t, err, unix.ELOOP, path, "lock file")
	if _, err := os.Lstat(target); err == nil {
		t.Error("the link was followed")
	}
}

func TestListenOneOfManyWins(t *testing.T) {
	const starters, rounds = 32, 20
	for round := range rounds {
		path := socketPath(t)
		if round%2 == 1 {
			leaveStale(t, path)
		}
		var (
			wg    sync.WaitGroup
			mu    sync.Mutex
			won   []*net.UnixListener
			begin = make(chan struct{})
		)
		for range starters {
			wg.Go(func() {
				<-begin
				l, err := agent.Listen(path, 0o600)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, l)
				} else if !errors.Is(err, agent.ErrSocketInUse) {
					t.Errorf("a loser's error: %v", err)
				}
			})
		}
		close(begin)
		wg.Wait()
		if len(won) != 1 {
			t.Errorf("round %d: %d of %d starters listen, want 1", round, len(won), starters)
		}
		for _, l := range won {
			l.Close()
		}
	}
}

func TestRemoveSocketLeavesOthers(t *testing.T) {
	path := socketPath(t)
	if err := agent.RemoveSocket(path); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	other, err := agent.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := agent.RemoveSocket(path); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("another's live socket was removed: %v", err)
	} else {
		c.Close()
	}
	file := path + ".txt"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := agent.RemoveSocket(file); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(file); err != nil {
		t.Errorf("a regular file was removed: %v", err)
	}
}

// asNobody runs f with the effective user nobody, on a thread that ends with
// it. Only root can; others are already somebody without rights.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread dies with its user
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); errno != 0 {
			t.Error(errno)
			return
		}
		f()
	}()
	<-done
}

func TestListenWithoutPermission(t *testing.T) {
	path := socketPath(t)
	if err := os.Chmod(filepath.Dir(path), 0o555); err != nil {
		t.Fatal(err)
	}
	var err error
	asNobody(t, func() { _, err = agent.Listen(path, 0o600) })
	wantError(t, err, fs.ErrPermission, path, "run the agent as a user that may write in "+filepath.Dir(path))
}

// A socket of another user stays, even a stale one, even for root.
func TestListenRefusesAnotherUsersSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: another user's socket, which only root can make: run this test as root, CI does")
	}
	for _, c := range []struct {
		how   string
		owner int
		as    func(*testing.T, func())
	}{
		{"root finds nobody's", 65534, func(_ *testing.T, f func()) { f() }},
		{"nobody finds root's", 0, asNobody},
	} {
		path := socketPath(t)
		leaveStale(t, path)
		if err := errors.Join(os.Chown(path, c.owner, -1), os.Chmod(filepath.Dir(path), 0o777)); err != nil {
			t.Fatal(err)
		}
		var err error
		c.as(t, func() { _, err = agent.Listen(path, 0o600) })
		wantError(t, err, fs.ErrPermission, path, "belongs to", "uid 0", "uid 65534", "stop that agent")
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: it was removed: %v", c.how, err)
		}
	}
}
