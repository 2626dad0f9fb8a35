//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fallbackcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// tryLock takes the lock that ends with the process (flock).
func tryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// private says what is wrong with a folder that is not this user's alone.
func private(info fs.FileInfo) error {
	if !info.IsDir() {
		return errors.New("is not a folder; remove it, or name another place")
	}
	if uid, _, ok := owners(info); ok && uid != os.Geteuid() {
		return fmt.Errorf("belongs to user %d and this is %d; each user needs a folder of its own", uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("has mode %o, and others may enter; chmod 700, if they have not", info.Mode().Perm())
	}
	return nil
}

// owners are the user and the group of a file.
func owners(info fs.FileInfo) (uid, gid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}

// sharedOuter says what is wrong with the place of a store that several users
// share: others than the group could put another store there.
func sharedOuter(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it is not there, and a shared one is not made by itself; make it: install -d -m 2770 -g GROUP " + dir)
	case err != nil:
		return err
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("it has mode %o, and everybody may write in it; a shared store is for one group: chmod 2770", info.Mode().Perm())
	}
	return nil
}

// sharedInner says what is wrong with a folder that is not one group's.
func sharedInner(info fs.FileInfo) error {
	mode := info.Mode()
	switch {
	case !info.IsDir():
		return errors.New("is not a folder; remove it, or name another place")
	case mode&fs.ModeSetgid == 0 || mode.Perm()&0o070 != 0o070:
		return fmt.Errorf("has mode %o: it is one user's own, or being made; name another place for a shared store: %w", mode.Perm(), fs.ErrPermission)
	case mode.Perm()&0o007 != 0:
		return fmt.Errorf("has mode %o, and others than the group may enter; chmod 2770, if they have not", mode.Perm())
	}
	return nil
}
