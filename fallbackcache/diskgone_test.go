//go:build unix

package fallbackcache

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Who removes the folder, or parts of it, under running programs gets a new one,
// by which they are in step again with each other and with those that come later.
func TestDiskRemovedWhileOpen(t *testing.T) {
	for name, harm := range map[string]func(dir string) error{
		"all":         os.RemoveAll,
		"the store":   func(dir string) error { return os.RemoveAll(filepath.Join(dir, diskFolder)) },
		"the lock":    func(dir string) error { return os.Remove(filepath.Join(dir, diskFolder, lockFile)) },
		"the key":     func(dir string) error { return os.Remove(filepath.Join(dir, diskFolder, keyFile)) },
		"the changes": func(dir string) error { return os.Remove(filepath.Join(dir, diskFolder, changesFile)) },
		"what is not used": func(dir string) error { // as one who tidies up by age
			if err := os.Remove(filepath.Join(dir, diskFolder, keyFile)); err != nil {
				return err
			}
			return os.Remove(filepath.Join(dir, diskFolder, lockFile))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			one, two := onDisk(t, dir), onDisk(t, dir)
			keep(t, one, start, get(t, page), 200, "old")
			if err := harm(dir); err != nil {
				t.Fatal(err)
			}
			later, put := onDisk(t, dir), request(t, "PUT", page)
			later.Invalidate(put, response(t, put, 204, ""))
			for _, c := range []*Cache{one, two} { // they notice
				keep(t, c, start, numbered(t, 1), 200, "noticed")
				if got := found(t, c, start, time.Hour, get(t, page)); got != none {
					t.Errorf("what was in the old one is given: %q", got)
				}
			}
			for _, c := range []*Cache{one, two, later} {
				keep(t, c, start, get(t, page), 200, "new")
				for _, other := range []*Cache{one, two, later} {
					if got := found(t, other, start, time.Hour, get(t, page)); got != "new" {
						t.Errorf("found %q of what another stored", got)
					}
				}
				c.Invalidate(put, response(t, put, 204, ""))
				for _, other := range []*Cache{one, two, later} {
					if got := found(t, other, start, time.Hour, get(t, page)); got != none {
						t.Errorf("found %q that another saw changed", got)
					}
				}
			}
			if s := one.Stats(); s.DiskErrors != 0 {
				t.Error(s.DiskError)
			}
		})
	}
}

// The first that who has the old folder does may be a removal of what others have
// stored in the new one, and it may be in another working folder by then.
func TestDiskRemovedThenChanged(t *testing.T) {
	removals := map[string]func(*Cache){
		"PUT": func(c *Cache) { c.Invalidate(request(t, "PUT", page), response(t, request(t, "PUT", page), 204, "")) },
		"403": func(c *Cache) { keep(t, c, start, get(t, page), 403, "not any more") },
	}
	for name, remove := range removals {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			c := onDisk(t, "cache")
			keep(t, c, start, get(t, page), 200, "old")
			c.disk.rest.Store(math.MaxInt64) // as after another one had the lock for long
			dir, err := filepath.Abs("cache")
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			later := onDisk(t, dir)
			keep(t, later, start, get(t, page), 200, "new")
			remove(c)
			for _, who := range []*Cache{c, later} {
				if got := found(t, who, start, time.Hour, get(t, page)); got != none {
					t.Errorf("found %q, which was removed", got)
				}
			}
		})
	}
}

// Where there can be no new one, the memory goes on.
func TestDiskRemovedForGood(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := onDisk(t, dir)
	keep(t, c, start, get(t, page), 200, "old")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		keep(t, c, start, numbered(t, n), 200, "good")
		if got := found(t, c, start, time.Hour, numbered(t, n)); got != "good" {
			t.Errorf("found %q", got)
		}
	}
	if s := c.Stats(); s.DiskErrors != 1 { // it is tried once in a while
		t.Errorf("%d errors: %v", s.DiskErrors, s.DiskError)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	c.noReopen = time.Time{}
	for range 2 {
		keep(t, c, start, get(t, page), 200, "again")
	}
	if got := found(t, onDisk(t, dir), start, time.Hour, get(t, page)); got != "again" {
		t.Errorf("found %q when there can be one again", got)
	}
}
