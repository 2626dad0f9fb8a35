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
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("belongs to user %d and this is %d; each user needs a folder of its own", stat.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("has mode %o, and others may enter; chmod 700, if they have not", info.Mode().Perm())
	}
	return nil
}
