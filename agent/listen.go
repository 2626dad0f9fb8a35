//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrSocketInUse is wrapped by the error of [Listen] if another process
// listens at the path, or has been starting there for seconds.
var ErrSocketInUse = errors.New("in use by another process")

// maxSocketPath is the longest path that fits sun_path with its final zero.
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

// lockPatience is how long Listen waits for others that start at the same
// path. They need microseconds; only a stopped process needs longer.
const lockPatience = 2 * time.Second

// Listen makes a Unix socket at path, with exactly the permissions mode, and
// listens on it. Of many processes that start at once on one path one wins.
//
// A socket that a dead process of the same user left behind is replaced.
// Nothing else is: a file, a link, a directory, another user's socket and one
// that somebody listens on stay, and the error says what is there and what to
// do. Errors wrap [ErrSocketInUse], [fs.ErrNotExist], [fs.ErrExist],
// [fs.ErrPermission] or what the system said.
//
// Closing the listener leaves the file; call [RemoveSocket] after it.
func Listen(path string, mode os.FileMode) (*net.UnixListener, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	unlock, err := lockSocket(path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := clearStale(path); err != nil {
		return nil, err
	}
	// The mode is set before bind, so that nobody can connect in between; bind
	// takes the umask off it, and chmod puts that back.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), uint32(mode.Perm())) })
		return errors.Join(err, failed)
	}}
	made, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, listenError(path, err)
	}
	l := made.(*net.UnixListener)
	// The standard library would unlink whatever is at path by then.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, mode.Perm()); err != nil {
		return nil, errors.Join(listenError(path, err), l.Close(), os.Remove(path))
	}
	return l, nil
}

// RemoveSocket removes the socket at path if nobody listens on it: what a
// listener of [Listen] leaves when it is closed. A socket that another process
// has put there meanwhile, or any other file, stays, without an error.
func RemoveSocket(path string) error {
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Type() != fs.ModeSocket {
		return nil
	}
	unlock, err := lockSocket(path)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := probe(path); !errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("agent: cannot remove the closed socket: %w", err)
	}
	return nil
}

// checkSocketPath refuses what no socket can be made at.
func checkSocketPath(path string) error {
	switch {
	case path == "":
		return errors.New("agent: cannot listen: no socket path is given; give one, such as /run/resagent/agent.sock")
	case strings.HasPrefix(path, "@"), strings.ContainsRune(path, 0):
		return fmt.Errorf("agent: cannot listen at %q: it begins with @ or contains a zero byte, and abstract sockets have no permissions; give the path of a file", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("agent: cannot listen at %q: the path has %d bytes and a socket's path at most %d; choose a shorter one: %w",
			path, len(path), maxSocketPath, unix.ENAMETOOLONG)
	}
	dir := filepath.Dir(path)
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("agent: cannot listen at %q: its directory does not exist; create %s, owned by the user that runs the agent: %w", path, dir, fs.ErrNotExist)
	case err != nil:
		return listenError(path, err)
	case !fi.IsDir():
		return fmt.Errorf("agent: cannot listen at %q: %s is not a directory; choose another path: %w", path, dir, unix.ENOTDIR)
	}
	return nil
}

// clearStale removes the socket that a dead process of ours left at path. It
// returns nil if the path is free afterwards. The caller holds the lock.
func clearStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return listenError(path, err)
	}
	if what := fi.Mode().Type(); what != fs.ModeSocket {
		return fmt.Errorf("agent: cannot listen at %q: %s is there and it is not ours to remove; move it away or choose another path: %w", path, describe(what), fs.ErrExist)
	}
	if owner := fi.Sys().(*syscall.Stat_t).Uid; owner != uint32(os.Geteuid()) {
		return fmt.Errorf("agent: cannot listen at %q: the socket there belongs to %s and we run as %s; stop that agent and remove the socket, or choose another path: %w",
			path, userName(owner), userName(uint32(os.Geteuid())), fs.ErrPermission)
	}
	pid, err := probe(path)
	switch {
	case err == nil:
		return fmt.Errorf("agent: cannot listen at %q: %w (pid %d); stop that one or choose another path", path, ErrSocketInUse, pid)
	case errors.Is(err, unix.EAGAIN): // its queue of connections is full
		return fmt.Errorf("agent: cannot listen at %q: %w; stop that one or choose another path", path, ErrSocketInUse)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("agent: cannot listen at %q: it cannot be found out whether the socket there is in use: %w; remove it if it is not", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("agent: cannot replace the stale socket of a dead agent: %w", err)
	}
	return nil
}

// probe asks who listens at path: the pid, or ECONNREFUSED for nobody.
func probe(path string) (pid int32, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return 0, err
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return cred.Pid, nil
}

// lockSocket keeps others away from path until unlock is called, by a lock on
// the file path.lock, which is removed again. The kernel ends the lock of a
// process that dies.
func lockSocket(path string) (unlock func(), err error) {
	name := path + ".lock"
	for end := time.Now().Add(lockPatience); ; {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("agent: cannot listen at %q: no lock file can be made beside it: %w; run the agent as a user that may write in %s, and see that nothing else is at the lock's path",
				path, err, filepath.Dir(path))
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isFileAt(f, name) {
			return func() { os.Remove(name); f.Close() }, nil
		}
		f.Close() // held by another, or removed by the one that held it
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("agent: cannot lock %q: %w; put the socket on a local file system", name, err)
		}
		if err != nil && time.Now().After(end) {
			return nil, fmt.Errorf("agent: cannot listen at %q: %w, which has been starting there for %v; see who holds %s (fuser) and stop it", path, ErrSocketInUse, lockPatience, name)
		}
		if err != nil {
			time.Sleep(time.Millisecond)
		}
	}
}

// isFileAt reports whether the open file f is still the one at name.
func isFileAt(f *os.File, name string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(name)
	return err == nil && os.SameFile(ours, there)
}

// listenError adds the place and, for the common causes, what to do.
func listenError(path string, err error) error {
	advice := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = fmt.Sprintf("; run the agent as a user that may write in %s (now %s)", filepath.Dir(path), userName(uint32(os.Geteuid())))
	case errors.Is(err, unix.EADDRINUSE):
		advice = "; something was put there just now, remove it or choose another path"
	}
	return fmt.Errorf("agent: cannot listen at %q: %w%s", path, err, advice)
}

// describe names a kind of file in words.
func describe(t fs.FileMode) string {
	switch {
	case t.IsDir():
		return "a directory"
	case t.IsRegular():
		return "a regular file"
	case t&fs.ModeSymlink != 0:
		return "a symbolic link"
	}
	return "a special file"
}

// userName is "NAME (uid N)", or "uid N" where nobody has that number.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, id)
	}
	return "uid " + id
}
