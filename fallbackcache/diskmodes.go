package fallbackcache

import (
	"errors"
	"io/fs"
	"os"
)

// Modes of a store: of one user, or of the group that has its folder. The bits
// are set by name, since a umask would take the group's away.
const (
	sharedFolderMode = fs.ModeSetgid | 0o770
	sharedFileMode   = 0o660
)

// mkdir makes a folder of the store, if it is not there.
func (d *disk) mkdir(in *os.Root, name string) error {
	err := in.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil && d.shared {
		err = in.Chmod(name, sharedFolderMode)
	}
	return err
}

// open opens a file of the store to the group.
func (d *disk) open(file *os.File) error {
	if !d.shared {
		return nil
	}
	info, err := file.Stat()
	if err != nil || info.Mode().Perm() == sharedFileMode {
		return err
	}
	return file.Chmod(sharedFileMode)
}

// writeNew writes the file that is to have a name next. In a shared folder it
// begins with none: one that a process left may be another user's.
func (d *disk) writeNew(text []byte) error {
	if !d.shared {
		return d.root.WriteFile(newFile, text, 0o600)
	}
	_ = d.root.Remove(newFile)
	if err := d.root.WriteFile(newFile, text, 0o600); err != nil {
		return err
	}
	return d.root.Chmod(newFile, sharedFileMode)
}
