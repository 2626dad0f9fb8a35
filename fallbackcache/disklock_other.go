//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package fallbackcache

import (
	"errors"
	"io/fs"
	"os"
)

func tryLock(*os.File) bool { return false }
func unlock(*os.File)       {}

// private refuses: there is no lock here, and no owner to ask for.
func private(fs.FileInfo) error {
	return errors.New("there is no disk store on this system; leave Dir empty")
}

func owners(fs.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }

func sharedOuter(string) error      { return private(nil) }
func sharedInner(fs.FileInfo) error { return private(nil) }
