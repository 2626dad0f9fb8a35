//go:build unix

package fallbackcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// files lists the entries of a folder.
func files(t testing.TB, dir string) (out []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, diskFolder, "[0-9a-f][0-9a-f][0-9a-f]", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func onDisk(t testing.TB, dir string) *Cache {
	t.Helper()
	c := &Cache{Dir: dir}
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.disk.close)
	return c
}

func TestDiskSurvives(t *testing.T) {
	dir := t.TempDir()
	one := onDisk(t, dir)
	alice, bob := get(t, page, "Authorization: Bearer alice"), get(t, page, "Authorization: Bearer bob")
	vary := []string{"Vary: Authorization, Accept", `ETag: "1"`, "Cache-Control: max-age=60"}
	keep(t, one, start, alice, 200, "alice's", vary...)
	keep(t, one, start, get(t, page+"&plain"), 404, "plain", "X-A: 1", "X-A: 2")
	two := onDisk(t, dir)
	if got := found(t, two, start, time.Hour, alice); got != "alice's" {
		t.Errorf("alice gets %q", got)
	}
	if got := found(t, two, start, time.Hour, bob); got != none {
		t.Errorf("bob gets %q", got)
	}
	if got := found(t, two, start, time.Hour, get(t, page)); got != none {
		t.Errorf("one without credentials gets %q", got)
	}
	resp := answer(t, two, get(t, page+"&plain"), start.Add(time.Minute), Outcome{})
	if got := drain(t, resp); got != "plain" || resp.StatusCode != 404 || len(resp.Header["X-A"]) != 2 || resp.Header.Get("Age") != "60" {
		t.Errorf("got %d %q %v", resp.StatusCode, got, resp.Header)
	}
	for _, name := range files(t, dir) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "Bearer") {
			t.Error("the credential lies in the file")
		}
	}
}

// Two caches that keep users apart in different ways share no answer.
func TestDiskOfAnotherConfiguration(t *testing.T) {
	dir := t.TempDir()
	loose := &Cache{Dir: dir, Credentials: []string{}}
	keep(t, loose, start, get(t, page, "Cookie: alice"), 200, "alice's")
	if got := found(t, onDisk(t, dir), start, time.Hour, get(t, page)); got != none {
		t.Errorf("a cache that looks at cookies got %q from one that does not", got)
	}
	onDisk(t, dir).Invalidate(request(t, "PUT", page), response(t, request(t, "PUT", page), 200, ""))
	if got := found(t, loose, start, time.Hour, get(t, page)); got != none {
		t.Errorf("what another cache saw changed is still given: %q", got)
	}
}

// What one process changes or learns, others see at once, whatever they have
// in memory.
func TestDiskIsOneForAll(t *testing.T) {
	dir := t.TempDir()
	one, two := onDisk(t, dir), onDisk(t, dir)
	look := func(want string) {
		t.Helper()
		for i, c := range []*Cache{one, two, one} {
			if got := found(t, c, start.Add(time.Minute), time.Hour, get(t, page)); got != want {
				t.Errorf("look %d: %q, want %q", i, got, want)
			}
		}
	}
	keep(t, one, start, get(t, page), 200, "first")
	look("first")
	keep(t, two, start.Add(time.Second), get(t, page), 200, "second")
	look("second")
	keep(t, one, start, get(t, page), 200, "older")
	look("second")
	req := get(t, page)
	late := two.Keep(req, response(t, req, 200, "asked for before the change"), start.Add(time.Minute))
	put := request(t, "PUT", page)
	one.Invalidate(put, response(t, put, 204, ""))
	look(none)
	drain(t, late)
	look(none)
	keep(t, one, start, get(t, page), 200, "third")
	look("third")
	keep(t, two, start.Add(time.Second), get(t, page), 403, "no")
	look(none)
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

// A file that is damaged in any way is never given, and goes.
func TestDiskDamage(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"a line":         func(b []byte) []byte { return []byte("hello\n") },
		"cut":            func(b []byte) []byte { return b[:len(b)-1] },
		"longer":         func(b []byte) []byte { return append(b, 0) },
		"zeros":          func(b []byte) []byte { return make([]byte, len(b)) },
		"first bit":      func(b []byte) []byte { b[0] ^= 1; return b },
		"sum":            func(b []byte) []byte { b[len(fileLine)] ^= 1; return b },
		"last bit":       func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"future version": func(b []byte) []byte { return append([]byte("resagent cache answers 2\n"), b[len(fileLine):]...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			keep(t, onDisk(t, dir), start, get(t, page), 200, "good")
			path := files(t, dir)[0]
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, harm(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c := onDisk(t, dir)
			if got := found(t, c, start, time.Hour, get(t, page)); got != none {
				t.Errorf("it was given: %q", got)
			}
			if left := files(t, dir); len(left) != 0 || c.Stats().DiskDamaged != 1 {
				t.Errorf("left: %q, counted %d", left, c.Stats().DiskDamaged)
			}
		})
	}
	t.Run("another entry's file", func(t *testing.T) {
		dir := t.TempDir()
		c := onDisk(t, dir)
		keep(t, c, start, get(t, page), 200, "good")
		was := files(t, dir)[0]
		keep(t, c, start, get(t, page, "Cookie: bob"), 200, "bob's")
		for _, name := range files(t, dir) {
			if name != was {
				if err := os.Rename(name, was); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := found(t, onDisk(t, dir), start, time.Hour, get(t, page)); got != none {
			t.Errorf("bob's answer was given to all: %q", got)
		}
	})
}

// Whatever else lies in the folder, or in the place of its own files, is never
// given, and answers are kept as before.
func TestDiskForeign(t *testing.T) {
	type harm func(root, file string) error
	instead := func(make func(name string) error) harm {
		return func(_, file string) error { return errors.Join(os.Remove(file), make(file)) }
	}
	inPlaceOf := func(name string, text []byte) harm {
		return func(root, _ string) error { return os.WriteFile(filepath.Join(root, name), text, 0o600) }
	}
	for name, c := range map[string]struct {
		harm harm
		want string // what is found afterwards; "" is none
	}{
		"a folder":         {harm: instead(func(name string) error { return os.MkdirAll(filepath.Join(name, "in", "it"), 0o700) })},
		"a link out":       {harm: instead(func(name string) error { return os.Symlink("/etc/passwd", name) })},
		"a link to itself": {harm: instead(func(name string) error { return os.Symlink(filepath.Base(name), name) })},
		"a pipe":           {harm: instead(func(name string) error { return syscall.Mkfifo(name, 0o600) })},
		"a large file":     {harm: instead(func(name string) error { return errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 1<<33)) })},
		"another key":      {harm: inPlaceOf(keyFile, make([]byte, 32))},
		"a short key":      {harm: inPlaceOf(keyFile, []byte("short"))},
		"no changes":       {harm: inPlaceOf(changesFile, nil), want: "good"},
		"long changes":     {harm: inPlaceOf(changesFile, make([]byte, 1<<20)), want: "good"},
		"no account":       {harm: inPlaceOf(usageFile, nil), want: "good"},
		"a senseless one":  {harm: inPlaceOf(usageFile, []byte(strings.Repeat("\xff", shards*usageSize))), want: "good"},
		"a folder as new":  {harm: func(root, _ string) error { return os.MkdirAll(filepath.Join(root, newFile, "x"), 0o700) }, want: "good"},
		"a link as new":    {harm: func(root, _ string) error { return os.Symlink("/dev/full", filepath.Join(root, newFile)) }, want: "good"},
		"files beside":     {harm: inPlaceOf("stranger", []byte("x")), want: "good"},
		"a shard as a file": {harm: func(_, file string) error {
			dir := filepath.Dir(file)
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before := onDisk(t, dir)
			keep(t, before, start, get(t, page), 200, "good", "Cache-Control: max-age=60")
			if err := c.harm(filepath.Join(dir, diskFolder), files(t, dir)[0]); err != nil {
				t.Fatal(err)
			}
			cache := onDisk(t, dir)
			if c.want == "" {
				c.want = none
			}
			// One store may be lost to what is in its way.
			keep(t, cache, start, get(t, "http://upstream.test/first"), 200, "x")
			cache.disk.rest.Store(0)
			if got := found(t, cache, start, 0, get(t, page)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			keep(t, cache, start.Add(time.Second), get(t, page), 200, "new", "Cache-Control: max-age=60")
			if got := found(t, cache, start.Add(time.Second), 0, get(t, page)); got != "new" {
				t.Errorf("got %q, want the new one", got)
			}
			keep(t, cache, start, get(t, "http://upstream.test/other"), 200, "other", "Cache-Control: max-age=60")
			if got := found(t, onDisk(t, dir), start, 0, get(t, "http://upstream.test/other")); got != "other" {
				t.Errorf("after a restart got %q, want the other: %v", got, cache.Stats().DiskError)
			}
			if got := found(t, onDisk(t, dir), start.Add(time.Second), 0, get(t, page)); got != "new" {
				t.Errorf("after a restart got %q, want the new one: %v", got, cache.Stats().DiskError)
			}
		})
	}
}

func TestDiskThatCannotBe(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("as root: the read-only folder is not tried")
	}
	for name, prepare := range map[string]func(dir string) error{
		"a file":      func(dir string) error { return os.WriteFile(filepath.Join(dir, diskFolder), nil, 0o600) },
		"open to all": func(dir string) error { return os.Mkdir(filepath.Join(dir, diskFolder), 0o755) },
		"a link":      func(dir string) error { return os.Symlink(os.TempDir(), filepath.Join(dir, diskFolder)) },
		"a pipe":      func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, diskFolder), 0o600) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		c := &Cache{Dir: dir}
		if err := c.Open(); err == nil || !strings.HasPrefix(err.Error(), "fallbackcache: disk store in "+dir) {
			t.Errorf("%s: Open returned %v", name, err)
		}
		keep(t, c, start, get(t, page), 200, "good")
		if got := found(t, c, start, time.Hour, get(t, page)); got != "good" || c.Stats().DiskErrors == 0 {
			t.Errorf("%s: the memory does not go on: %q, %+v", name, got, c.Stats())
		}
	}
}

// An answer from the future has an unknown age, and does not keep new ones out.
func TestDiskClockSetBack(t *testing.T) {
	dir := t.TempDir()
	keep(t, onDisk(t, dir), start, get(t, page), 200, "good", "Cache-Control: max-age=60")
	back := start.Add(-2 * time.Hour)
	c := onDisk(t, dir)
	if got := found(t, c, back, time.Hour, get(t, page)); got != none {
		t.Errorf("got %q", got)
	}
	keep(t, c, back, get(t, page), 200, "new", "Cache-Control: max-age=60")
	for _, one := range []*Cache{c, onDisk(t, dir)} {
		if got := found(t, one, back.Add(time.Minute), time.Hour, get(t, page)); got != "new" {
			t.Errorf("got %q, want the new one", got)
		}
	}
}

func TestDiskModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "one")
	keep(t, onDisk(t, dir), start, get(t, page), 200, "good")
	err := filepath.WalkDir(dir, func(path string, one fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := one.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = fmt.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Whatever lies in a file, what is read from it is what was written, or
// nothing; and what is behind a right checksum harms nobody.
func FuzzDiskFile(f *testing.F) {
	c := onDisk(f, f.TempDir())
	req := get(f, page, "Accept: a")
	resp := response(f, req, 200, "body", usual...)
	v := judge(always, resp.Header, start)
	e := c.newEntry("uri", audience{1}, req.Header, resp, resp.Header, v)
	e.complete([]byte("body"))
	french := c.newEntry("uri", audience{1}, header(f, "Accept: fr"), resp, resp.Header, v)
	french.complete([]byte("corps"))
	for _, group := range [][]*entry{{e}, {e, french}} {
		whole := c.disk.encode(group)
		f.Add(whole)
		f.Add(whole[fileHead:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := c.disk.decode(b); err == nil && string(c.disk.encode(got)) != string(b) {
			t.Errorf("%x was read, and is written otherwise", b)
		}
		if got, err := decodeGroup(b, &c.disk.scope); err == nil {
			if again := c.disk.encode(got); string(again[fileHead:]) != string(b) {
				t.Errorf("%x was read, and is written as %x", b, again[fileHead:])
			}
		}
	})
}
