//go:build unix

package fallbackcache

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The variants for one audience lie in one file, and come and go one by one;
// without the lock they go together.
func TestDiskVariants(t *testing.T) {
	dir := t.TempDir()
	c := onDisk(t, dir)
	in := func(language string) *http.Request { return get(t, page, "Accept-Language: "+language) }
	vary := []string{"Vary: Accept-Language", "Cache-Control: max-age=60"}
	for i, language := range []string{"fr", "de", "it", "de"} {
		keep(t, c, start.Add(time.Duration(i)*time.Second), in(language), 200, language+strconv.Itoa(i), vary...)
	}
	look := func(when string, want map[string]string) {
		t.Helper()
		for language, body := range want {
			for _, cache := range []*Cache{c, onDisk(t, dir)} {
				if got := found(t, cache, start.Add(4*time.Second), 0, in(language)); got != body {
					t.Errorf("%s: %s gets %q, want %q", when, language, got, body)
				}
			}
		}
	}
	look("all", map[string]string{"fr": "fr0", "de": "de3", "it": "it2", "en": none})
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("there are %d files, want 1", n)
	}
	keep(t, c, start.Add(4*time.Second), in("de"), 200, "secret", "Cache-Control: no-store")
	look("one forbidden", map[string]string{"fr": "fr0", "de": none, "it": "it2"})
	info, err := os.Stat(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	c.disk.maxFile = info.Size() + 50 // two of them
	keep(t, c, start.Add(4*time.Second), in("en"), 200, "en4", vary...)
	look("little room", map[string]string{"fr": none, "it": "it2", "en": "en4"})

	other := onDisk(t, dir)
	if !other.disk.hold(time.Second) {
		t.Fatal("the lock is held")
	}
	keep(t, c, start.Add(4*time.Second), in("it"), 200, "secret", "Cache-Control: no-store")
	other.disk.let()
	look("no lock", map[string]string{"it": none, "en": none})
	if s := c.Stats(); s.DiskErrors != 0 {
		t.Error(s.DiskError)
	}
}

func TestDiskBounds(t *testing.T) {
	dir := t.TempDir()
	c := &Cache{Dir: dir, MaxDiskBytes: 200 << 10, MaxDiskFiles: 30}
	body := strings.Repeat("x", 5<<10)
	for i := range 200 {
		keep(t, c, start, numbered(t, i), 200, body)
		var bytes int64
		all := files(t, dir)
		for _, name := range all {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			bytes += info.Size()
		}
		if len(all) > 30 || bytes > 200<<10 {
			t.Fatalf("%d files of %d bytes after %d stores", len(all), bytes, i)
		}
	}
	n := len(files(t, dir))
	if n < 20 {
		t.Errorf("only %d files are left", n)
	}
	if s := c.Stats(); s.DiskFiles != int64(n) || s.DiskBytes < int64(n*len(body)) || s.DiskBytes > 200<<10 || s.DiskStored != 200 || s.DiskEvicted != int64(200-n) {
		t.Errorf("of %d files it tells %+v", n, s)
	}
	if got := found(t, c, start, time.Hour, numbered(t, 199)); got != body {
		t.Error("the newest is not there")
	}
}

// Accounts that are lost or wrong are counted anew; what is no entry goes.
func TestDiskAccounts(t *testing.T) {
	for name, harm := range map[string]func(*os.File) error{
		"lost":    func(f *os.File) error { return f.Truncate(0) },
		"damaged": func(f *os.File) error { _, err := f.WriteAt(make([]byte, shards*usageSize), 0); return err },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := onDisk(t, dir)
			for i := range 50 {
				keep(t, c, start, numbered(t, i), 200, "x")
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(files(t, dir)[0]), "foreign"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := harm(c.disk.usage); err != nil {
				t.Fatal(err)
			}
			again := onDisk(t, dir)
			if !again.disk.hold(time.Second) {
				t.Fatal("the lock is held")
			}
			_, all, err := again.disk.accounts()
			again.disk.let()
			if err != nil || all.files != 50 || len(files(t, dir)) != 50 {
				t.Errorf("%d files in the accounts, %d in the folder, %v", all.files, len(files(t, dir)), err)
			}
			if got := found(t, again, start, time.Hour, numbered(t, 7)); got != "x" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A process that died while it wrote leaves one file, which the next one uses.
func TestDiskUnfinished(t *testing.T) {
	dir := t.TempDir()
	c := onDisk(t, dir)
	if err := os.WriteFile(filepath.Join(dir, diskFolder, newFile), []byte(strings.Repeat("y", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	keep(t, c, start, get(t, page), 200, "good")
	if got := found(t, onDisk(t, dir), start, time.Hour, get(t, page)); got != "good" {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, diskFolder, newFile)); !os.IsNotExist(err) {
		t.Errorf("the unfinished file is still there: %v", err)
	}
}

// One who holds the lock for ever costs stores, never a wrong answer.
func TestDiskLockHeld(t *testing.T) {
	dir := t.TempDir()
	c, stopped := onDisk(t, dir), onDisk(t, dir)
	keep(t, c, start, get(t, page), 200, "good")
	if !stopped.disk.hold(time.Second) {
		t.Fatal("no lock")
	}
	keep(t, c, start, numbered(t, 1), 200, "memory only")
	if got := found(t, c, start, time.Hour, numbered(t, 1)); got != "memory only" {
		t.Errorf("got %q", got)
	}
	put := request(t, "PUT", page)
	c.Invalidate(put, response(t, put, 204, ""))
	for _, who := range []*Cache{c, stopped} {
		if got := found(t, who, start, time.Hour, get(t, page)); got != none {
			t.Errorf("what was changed is given: %q", got)
		}
	}
	stopped.disk.let()
}

// Who reads a file between the word that it is out of date and its removal does
// not go on giving what was in it.
func TestDiskReadDuringRemoval(t *testing.T) {
	dir := t.TempDir()
	reads, writes := onDisk(t, dir), onDisk(t, dir)
	put := request(t, "PUT", page)
	for i := range 300 {
		keep(t, writes, start, get(t, page), 200, strconv.Itoa(i))
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					reads.Find(get(t, page), time.Hour, start)
				}
			}
		}()
		writes.Invalidate(put, response(t, put, 204, ""))
		close(stop)
		<-done
		if got := found(t, reads, start, time.Hour, get(t, page)); got != none {
			t.Fatalf("round %d: %q is still given", i, got)
		}
	}
}

// What is taken out without the lock, which a stopped process has, is not written
// again by that one when it goes on.
func TestDiskRemovedBesideAStore(t *testing.T) {
	dir := t.TempDir()
	c, stopped := onDisk(t, dir), onDisk(t, dir)
	keep(t, c, start, get(t, page), 200, "good")
	req := get(t, page)
	uri, _ := target(req)
	asked := stopped.Stamp(req)
	if !stopped.disk.hold(time.Second) {
		t.Fatal("no lock")
	}
	old := stopped.disk.load(uri, audience{})
	keep(t, c, start, get(t, page), 200, "secret", "Cache-Control: no-store")
	if _, _, result, err := stopped.disk.putLocked(old[0], nil, asked.drops); result != putRefused || err != nil {
		t.Errorf("the store ended as %v, %v", result, err)
	}
	stopped.disk.let()
	for _, who := range []*Cache{c, stopped} {
		if got := found(t, who, start, time.Hour, get(t, page)); got != none {
			t.Errorf("what is forbidden is given: %q", got)
		}
	}
}

// Who takes out one variant, and is stopped while it does, does not write the
// others again of which it was told in between that they are out of date.
func TestDiskDroppedBesideARemoval(t *testing.T) {
	dir := t.TempDir()
	c, stopped := onDisk(t, dir), onDisk(t, dir)
	in := func(language string) *http.Request { return get(t, page, "Accept-Language: "+language) }
	for _, language := range []string{"de", "fr"} {
		keep(t, c, start, in(language), 200, language, "Vary: Accept-Language")
	}
	uri, _ := target(in("de"))
	if !stopped.disk.hold(time.Second) {
		t.Fatal("no lock")
	}
	drops := stopped.disk.settle(uri, noteDrop)
	name, group := files(t, dir)[0], stopped.disk.load(uri, audience{})
	both, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	put := request(t, "PUT", page)
	c.Invalidate(put, response(t, put, 204, ""))
	if err := os.WriteFile(name, both, 0o600); err != nil { // so that it is read as before that
		t.Fatal(err)
	}
	stopped.disk.removeLocked(uri, audience{}, group[:1], drops)
	stopped.disk.let()
	for _, who := range []*Cache{c, stopped, onDisk(t, dir)} {
		for _, language := range []string{"de", "fr"} {
			if got := found(t, who, start, time.Hour, in(language)); got != none {
				t.Errorf("what was changed is given: %q", got)
			}
		}
	}
}

// What is dropped without the lock while it is written, by one who has it and had
// asked before, is not there afterwards.
func TestDiskDroppedBesideAStore(t *testing.T) {
	dir := t.TempDir()
	c, stores := onDisk(t, dir), onDisk(t, dir)
	put := request(t, "PUT", page)
	for i := range 10 {
		keep(t, stores, start, get(t, page), 200, "before")
		asked := stores.Stamp(get(t, page))
		uri, _ := target(get(t, page))
		group := stores.disk.load(uri, audience{})
		if len(group) == 0 || !stores.disk.hold(time.Second) {
			t.Fatal("nothing is stored, or no lock")
		}
		dropped := make(chan struct{})
		go func() {
			defer close(dropped)
			c.Invalidate(put, response(t, put, 204, ""))
		}()
		for result := putDone; result == putDone; {
			var err error
			if _, _, result, err = stores.disk.putLocked(group[0], nil, asked.drops); err != nil {
				t.Fatal(err)
			}
		}
		<-dropped
		stores.disk.let()
		if got := found(t, c, start, time.Hour, get(t, page)); got != none {
			t.Fatalf("round %d: what was changed is given: %q", i, got)
		}
	}
}
