//go:build linux

package agent

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// keepAgain is how long it takes until what could not be written for a later
// agent is tried again.
const keepAgain = 10 * time.Second

// keep replaces a file as a whole. Where there is nothing to say there is none:
// to remove one takes no space.
func keep(path string, text []byte) error {
	if len(text) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	next := path + ".new"
	os.Remove(next) // that an agent left when it was killed
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		_, err = f.Write(text)
		err = cmp.Or(err, f.Close())
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		os.Remove(next) // a part of it would fill what is full
	}
	return err
}

// tellKept logs that something is not kept, once until it can be written again;
// that there was nothing to write, and no file now, does not say that.
func (a *Agent) tellKept(what, path string, text []byte, failing *bool, err error) {
	switch {
	case err != nil && !*failing:
		*failing = true
		a.log().Error(what+" are not kept for a later agent", "file", path, "reason", err)
	case err == nil && *failing && len(text) > 0:
		*failing = false
		a.log().Info(what+" are kept for a later agent again", "file", path)
	}
}
