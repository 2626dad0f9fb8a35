package fallbackcache

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Folder is the disk store of a [Cache.Dir], for those who look after it.
// Caches may use it at the same time.
type Folder struct{ disk *disk }

// Listed is one answer in a Folder.
type Listed struct {
	// URL it answers, as the cache names it: host in lower case, no default
	// port.
	URL string `json:"url"`
	// Private tells that it is for requests with certain credentials, or of a
	// partition, only.
	Private bool `json:"private"`
	// Vary names the request fields it depends on.
	Vary []string `json:"vary,omitempty"`
	// Status and Header as they would be given, but for Age and Cache-Status.
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	// Size of the body in bytes.
	Size int64 `json:"size"`
	// StoredAt is when it arrived, or was last confirmed.
	StoredAt time.Time `json:"stored_at"`
	// FreshUntil is when it becomes stale.
	FreshUntil time.Time `json:"fresh_until"`

	uri string
}

// OpenFolder opens the store in dir, which must be there. Close it. The error
// of one whose folder it is not, root among them, wraps [fs.ErrPermission].
func OpenFolder(dir string) (*Folder, error) {
	info, err := os.Stat(filepath.Join(dir, diskFolder))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, notYours(dir, err)
	case err != nil:
		return nil, fmt.Errorf("fallbackcache: no disk store in %s: %w; name what Cache.Dir names", dir, err)
	}
	shared := info.Mode()&fs.ModeSetgid != 0
	if uid, _, ok := owners(info); ok && !shared && uid != os.Geteuid() {
		return nil, notYours(dir, fs.ErrPermission)
	}
	d, err := openDisk(dir, shared)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, notYours(dir, err)
	case err != nil:
		return nil, err
	}
	return &Folder{d}, nil
}

// notYours says whose the store in dir is, as far as can be seen.
func notYours(dir string, cause error) error {
	if inner := new(fs.PathError); errors.As(cause, &inner) {
		cause = inner.Err
	}
	advice := "only the user whose programs fill it may"
	info, err := os.Stat(filepath.Join(dir, diskFolder))
	if err != nil {
		info, err = os.Stat(dir)
	}
	if err == nil {
		uid, gid, ok := owners(info)
		switch {
		case ok && info.Mode()&fs.ModeSetgid != 0:
			advice = fmt.Sprintf("the members of group %d may", gid)
		case ok:
			advice = fmt.Sprintf("only user %d may: run this with sudo -u '#%d'", uid, uid)
		}
	}
	return fmt.Errorf("fallbackcache: cannot look into %s: %w; %s", dir, cause, advice)
}

// Close implements io.Closer.
func (f *Folder) Close() error {
	f.disk.close()
	return nil
}

// All reads the answers one by one, in no order. A file that is none comes as
// an error, and the next ones follow. Nothing is changed.
func (f *Folder) All() iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		for shard := range shards {
			dir, err := fs.ReadDir(f.disk.root.FS(), shardName(shard))
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				if !yield(Listed{}, fmt.Errorf("fallbackcache: %w", err)) {
					return
				}
				continue
			}
			for _, one := range dir {
				found, err := f.disk.inspect(shard, one)
				if os.IsNotExist(err) {
					continue // it went in the meantime
				}
				if err != nil && !yield(Listed{}, fmt.Errorf("fallbackcache: %s: %w", path(shard, one.Name()), err)) {
					return
				}
				for _, l := range found {
					if !yield(l, nil) {
						return
					}
				}
			}
		}
	}
}

// inspect reads a file of whatever configuration.
func (d *disk) inspect(shard int, one fs.DirEntry) (found []Listed, err error) {
	if !one.Type().IsRegular() {
		return nil, errDamaged
	}
	b, err := d.root.ReadFile(path(shard, one.Name()))
	if err != nil {
		return nil, err
	}
	if !d.genuine(b) {
		return nil, errDamaged
	}
	group, err := decodeGroup(b[fileHead:], nil)
	if err != nil {
		return nil, err
	}
	for _, e := range group {
		l := Listed{
			URL: strings.Replace(strings.Replace(e.uri, "\x00", "://", 1), "\x00", "", 1), uri: e.uri,
			Private: e.who != audience{}, Status: e.status, Size: int64(len(e.body)),
			StoredAt: e.fresh.arrived, FreshUntil: e.fresh.arrived.Add(e.fresh.lifetime - e.fresh.age),
		}
		l.Header, _ = e.header(0)
		for _, v := range e.vary {
			l.Vary = append(l.Vary, v.name)
		}
		found = append(found, l)
	}
	return found, nil
}

// Purge removes, for all users, the answers to every URL of which match finds
// one to be removed, and files that are no answers. Nil matches all. It
// returns how many answers matched. Caches that use the folder forget at once
// all that they have in memory, also of what has no file, and store nothing that
// they have asked for and not stored yet.
func (f *Folder) Purge(match func(Listed) bool) (n int, err error) {
	if err := f.disk.noteAll(); err != nil {
		return 0, fmt.Errorf("fallbackcache: %w", err)
	}
	for shard := range shards {
		dir, err := fs.ReadDir(f.disk.root.FS(), shardName(shard))
		if err != nil {
			if os.IsNotExist(err) {
				continue
			}
			return n, fmt.Errorf("fallbackcache: %w", err)
		}
		uris := map[string]bool{}
		for _, one := range dir {
			found, err := f.disk.inspect(shard, one)
			switch {
			case err == errDamaged:
				f.disk.discard(shard, one.Name())
			case err != nil && !os.IsNotExist(err):
				return n, fmt.Errorf("fallbackcache: %w", err)
			}
			for _, l := range found {
				if match == nil || match(l) {
					uris[l.uri] = true
					n++
				}
			}
		}
		for uri := range uris {
			f.disk.drop(uri)
		}
		if f.disk.broken.Load() {
			return n, fmt.Errorf("fallbackcache: %w", f.disk.counts.last)
		}
	}
	return n, nil
}
