//go:build unix

package fallbackcache

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a look, and a store that comes to nothing, costs does not grow with
// what lies beside: no folder is listed. A list would allocate each name.
func TestDiskLooksAtOneFile(t *testing.T) {
	dir := t.TempDir()
	c := onDisk(t, dir)
	keep(t, c, start, get(t, page), 200, "good")
	uri, _ := target(get(t, page))
	shard, name := c.disk.fileName(uri, audience{})
	other := audience{1}
	costs := func() (out [3]float64) {
		for i, f := range []func(){
			func() {
				if group := c.disk.load(uri, audience{}); len(group) != 1 {
					t.Fatalf("found %d variants", len(group))
				}
			},
			func() {
				if group := c.disk.load(uri, other); len(group) != 0 {
					t.Fatal("found what is not there")
				}
			},
			func() {
				req := get(t, page, "Cookie: other")
				c.Keep(req, response(t, req, 200, "", "Cache-Control: no-store"), start)
			},
		} {
			out[i] = testing.AllocsPerRun(20, f)
		}
		return out
	}
	alone := costs()
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(dir, diskFolder, path(shard, fmt.Sprintf("%s%017x", name[:uriDigits], i))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.disk.setUsed(shard, used{4096 * 1001, 1001}); err != nil {
		t.Fatal(err)
	}
	among := costs()
	for i, what := range []string{"a hit", "a miss", "a store that comes to nothing"} {
		if among[i] > alone[i]+50 { // a look at the others is hundreds; under -race sync.Pool forgets some
			t.Errorf("%s allocates %v times where it is alone and %v among 1,000 others", what, alone[i], among[i])
		}
	}
}

// Opening a store looks at no entry: it works while they are out of reach, and
// has them all when they are back.
func TestDiskOpensWithoutLooking(t *testing.T) {
	dir, away := t.TempDir(), t.TempDir()
	const n = 100
	c := onDisk(t, dir)
	for i := range n {
		keep(t, c, start, numbered(t, i), 200, "x")
	}
	shardFolders, err := filepath.Glob(filepath.Join(dir, diskFolder, "[0-9a-f][0-9a-f][0-9a-f]"))
	if err != nil || len(shardFolders) < 10 {
		t.Fatalf("%d shards, %v", len(shardFolders), err)
	}
	for _, name := range shardFolders {
		if err := os.Rename(name, filepath.Join(away, filepath.Base(name))); err != nil {
			t.Fatal(err)
		}
	}
	again := onDisk(t, dir)
	if s := again.Stats(); s.DiskErrors != 0 || s.DiskDamaged != 0 {
		t.Errorf("opening counted %+v", s)
	}
	for _, name := range shardFolders {
		if err := os.Rename(filepath.Join(away, filepath.Base(name)), name); err != nil {
			t.Fatal(err)
		}
	}
	if !again.disk.hold(time.Second) {
		t.Fatal("the lock is held")
	}
	_, all, err := again.disk.accounts()
	again.disk.let()
	if err != nil || all.files != n {
		t.Errorf("the account has %d files, want %d (%v)", all.files, n, err)
	}
	for i := range n {
		if got := found(t, again, start, time.Hour, numbered(t, i)); got != "x" {
			t.Errorf("entry %d: got %q", i, got)
		}
	}
}

// TestDiskOfMany is for a person to read: ENTRIES=1000000 go test -v -timeout 2h
// -run DiskOfMany ./fallbackcache, with TMPDIR on the disk in question.
func TestDiskOfMany(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("ENTRIES"))
	if n < 1000 {
		t.Skip("ENTRIES says how many, 1000 at least")
	}
	dir := t.TempDir()
	body := strings.Repeat("x", 1024)
	open := func(memory int64) *Cache {
		c := &Cache{Dir: dir, MaxDiskFiles: int64(n) + 10_000, MaxDiskBytes: 1 << 50, MaxBytes: memory}
		if err := c.Open(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.disk.close)
		return c
	}
	entry := func(i int) string { return fmt.Sprintf("http://upstream.test/entry/%d", i) }
	c := open(1 << 20)
	figure := func(what string, times int, f func(i int)) {
		began, each := time.Now(), make([]time.Duration, 0, times)
		for i := range times {
			one := time.Now()
			f(i)
			each = append(each, time.Since(one))
		}
		total := time.Since(began)
		slices.Sort(each)
		t.Logf("%-40s mean %8v  median %8v  p99 %8v", what, (total / time.Duration(times)).Round(100*time.Nanosecond), each[times/2], each[times*99/100])
	}
	figure(fmt.Sprintf("store, up to %d entries", n), n, func(i int) {
		keep(t, c, start, get(t, entry(i)), 200, body, "Cache-Control: max-age=60")
	})
	figure("open", 20, func(int) { open(1 << 20) })
	c = open(1 << 20)
	figure("hit on disk", 5000, func(i int) {
		if got := found(t, c, start, time.Hour, get(t, entry(i*(n/5000+1)%n))); got != body {
			t.Fatalf("entry %d: %q", i, got)
		}
	})
	figure("miss", 5000, func(i int) {
		if got := found(t, c, start, time.Hour, get(t, entry(n+i))); got != none {
			t.Fatalf("got %q", got)
		}
	})
	c = open(1 << 30)
	for i := range 1000 {
		found(t, c, start, time.Hour, get(t, entry(i)))
	}
	figure("hit in memory", 1000, func(i int) { found(t, c, start, time.Hour, get(t, entry(i))) })
	c.MaxDiskFiles, c.disk.maxFiles = int64(n), int64(n)
	figure("store, one evicted for each", 1000, func(i int) {
		keep(t, c, start, get(t, entry(n+i)), 200, body, "Cache-Control: max-age=60")
	})
	if s := c.Stats(); s.DiskErrors != 0 || s.DiskEvicted == 0 {
		t.Errorf("%+v", s)
	}
}

// What was used after it was chosen to be evicted is spared.
func TestDiskEvictionSparesTheUsed(t *testing.T) {
	dir := t.TempDir()
	c := &Cache{Dir: dir, MaxDiskFiles: 100}
	for i := range 100 {
		keep(t, c, start, numbered(t, i), 200, "x")
	}
	ago := time.Now().Add(-time.Hour)
	for _, name := range files(t, dir) {
		if err := os.Chtimes(name, ago, ago); err != nil {
			t.Fatal(err)
		}
	}
	keep(t, c, start, numbered(t, 100), 200, "x")
	if len(c.disk.victims) < 20 {
		t.Fatalf("%d are chosen", len(c.disk.victims))
	}
	other, chosen := onDisk(t, dir), map[string]bool{}
	for _, f := range c.disk.victims {
		chosen[f.name] = true
	}
	var spared []int
	for i := range 100 {
		uri, _ := target(numbered(t, i))
		if _, name := c.disk.fileName(uri, audience{}); chosen[name] && len(spared) < 10 {
			spared = append(spared, i)
			if got := found(t, other, start, time.Hour, numbered(t, i)); got != "x" {
				t.Fatalf("entry %d: %q", i, got)
			}
		}
	}
	for i := range 30 {
		keep(t, c, start, numbered(t, 200+i), 200, "x")
	}
	fresh := onDisk(t, dir)
	for _, i := range spared {
		if got := found(t, fresh, start, time.Hour, numbered(t, i)); got != "x" {
			t.Errorf("entry %d, used a moment ago, was evicted", i)
		}
	}
	if n := len(files(t, dir)); n != 100 {
		t.Errorf("there are %d files", n)
	}
}
