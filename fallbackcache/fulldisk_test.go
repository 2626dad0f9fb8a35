//go:build linux

package fallbackcache

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// small mounts a file system of that many bytes, or says loudly why not.
func small(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: a full and a read-only disk; mounting one needs root")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		t.Skipf("NOT TESTED: a full and a read-only disk; this root may not mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A full disk costs stores, which go on in memory; what lies on it is whole.
func TestDiskFull(t *testing.T) {
	dir := small(t, "512k")
	c := onDisk(t, dir)
	body := strings.Repeat("x", 20<<10)
	for i := range 60 {
		c.disk.rest.Store(0) // a failed store is followed by a rest; not here
		keep(t, c, start, numbered(t, i), 200, body)
		if got := found(t, c, start, time.Hour, numbered(t, i)); got != body {
			t.Fatalf("answer %d is not given by the one that has just stored it: %.20q", i, got)
		}
	}
	s := c.Stats()
	if s.DiskErrors == 0 || s.DiskStored == 0 {
		t.Fatalf("the disk was not filled: %+v", s)
	}
	again := onDisk(t, dir)
	whole := 0
	for i := range 60 {
		switch got := found(t, again, start, time.Hour, numbered(t, i)); got {
		case body:
			whole++
		case none:
		default:
			t.Errorf("answer %d is torn: %d bytes", i, len(got))
		}
	}
	if d := again.Stats().DiskDamaged; int64(whole) != s.DiskStored || d != 0 {
		t.Errorf("%d answers after a restart, %d were stored; %d files were damaged", whole, s.DiskStored, d)
	}
	for i := range 10 { // what is removed makes room
		put := request(t, "PUT", numbered(t, i).URL.String())
		again.Invalidate(put, response(t, put, 204, ""))
	}
	keep(t, again, start, numbered(t, 100), 200, body)
	if got := found(t, onDisk(t, dir), start, time.Hour, numbered(t, 100)); got != body {
		t.Error("where there is room again, nothing is stored")
	}
}

// A disk that can only be read: Open says so, and the memory goes on.
func TestDiskReadOnly(t *testing.T) {
	dir := small(t, "1m")
	keep(t, onDisk(t, dir), start, get(t, page), 200, "before")
	over := t.TempDir()
	if err := syscall.Mount(dir, over, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(over, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mount("", over, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	c := &Cache{Dir: over}
	if err := c.Open(); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("Open says %v, want that the file system is read-only", err)
	}
	keep(t, c, start, get(t, page), 200, "after")
	if got := found(t, c, start, time.Hour, get(t, page)); got != "after" {
		t.Errorf("the memory gives %q", got)
	}
}
