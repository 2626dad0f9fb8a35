//go:build unix

package fallbackcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sharedDir is a folder as the comment of Shared has it made.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, fs.ModeSetgid|0o770); err != nil {
		t.Fatal(err)
	}
	return dir
}

func sharedOn(t *testing.T, dir string) *Cache {
	t.Helper()
	c := &Cache{Dir: dir, Shared: true}
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.disk.close)
	return c
}

const public = "Cache-Control: public, max-age=60"

// Whatever the umask, the group can do all and others nothing.
func TestSharedModes(t *testing.T) {
	for _, umask := range []int{0, 0o077} {
		old := syscall.Umask(umask)
		dir := sharedDir(t)
		c := sharedOn(t, dir)
		keep(t, c, start, get(t, page), 200, "good", public)
		syscall.Umask(old)
		n := 0
		err := filepath.WalkDir(filepath.Join(dir, diskFolder), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(sharedFileMode)
			if e.IsDir() {
				want = fs.ModeDir | sharedFolderMode
			}
			if info.Mode() != want {
				t.Errorf("umask %o: %s has mode %v, want %v", umask, path, info.Mode(), want)
			}
			n++
			return nil
		})
		if err != nil || n < 7 {
			t.Errorf("umask %o: %d files, %v", umask, n, err)
		}
	}
}

// A shared cache and a private one never have one folder.
func TestSharedFolderThatCannotBe(t *testing.T) {
	own := t.TempDir()
	onDisk(t, own)
	everybody := t.TempDir()
	if err := os.Chmod(everybody, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	opened := sharedDir(t)
	sharedOn(t, opened)
	if err := os.Chmod(filepath.Join(opened, diskFolder), fs.ModeSetgid|0o775); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, want string }{
		{filepath.Join(own, "none"), "install -d -m 2770 -g GROUP"},
		{everybody, "everybody may write in it"},
		{own, "has mode 700: it is one user's own"},
		{opened, "others than the group may enter"},
	} {
		cache := &Cache{Dir: c.dir, Shared: true}
		if err := cache.Open(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
		keep(t, cache, start, get(t, page), 200, "good", public)
		if got := found(t, cache, start, 0, get(t, page)); got != "good" {
			t.Errorf("%s: in memory there is %q", c.want, got)
		}
	}
	shared := sharedDir(t)
	sharedOn(t, shared)
	if err := (&Cache{Dir: shared}).Open(); err == nil || !strings.Contains(err.Error(), "others may enter") {
		t.Errorf("a private cache in a shared folder: %v", err)
	}
}

// One that is being made by another user is waited for.
func TestSharedFolderBeingMade(t *testing.T) {
	dir := sharedDir(t)
	inner := filepath.Join(dir, diskFolder)
	if err := os.Mkdir(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	made := make(chan error)
	time.AfterFunc(enterWait/25, func() { made <- os.Chmod(inner, sharedFolderMode) })
	opened := make(chan error)
	go func() { opened <- (&Cache{Dir: dir, Shared: true}).Open() }()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// What is kept apart by who asked stays in the memory of the process, and a
// change that another process saw ends it there too.
func TestSharedFolderHoldsNoCredentials(t *testing.T) {
	dir := sharedDir(t)
	one, two := sharedOn(t, dir), sharedOn(t, dir)
	alice := get(t, page, "Authorization: alice")
	keep(t, one, start, alice, 200, "alice's", public)
	keep(t, one, start, get(t, page), 200, "for all", public)
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("there are %d files, want that for all alone", n)
	}
	for _, c := range []struct {
		cache *Cache
		user  string
		want  string
	}{{one, "alice", "alice's"}, {two, "alice", none}, {one, "", "for all"}, {two, "", "for all"}} {
		req := get(t, page)
		if c.user != "" {
			req.Header.Set("Authorization", c.user)
		}
		if got := found(t, c.cache, start, 0, req); got != c.want {
			t.Errorf("%q gets %q, want %q", c.user, got, c.want)
		}
	}
	two.Invalidate(request(t, "PUT", page), response(t, request(t, "PUT", page), 200, ""))
	if got := found(t, one, start, 0, alice); got != none {
		t.Errorf("after a change alice gets %q", got)
	}
}

// What one user stored before the folder was opened to others is not found.
func TestPrivateFolderMadeShared(t *testing.T) {
	dir := sharedDir(t)
	keep(t, onDisk(t, dir), start, get(t, page), 200, "my own", "Cache-Control: private, max-age=60")
	inner := filepath.Join(dir, diskFolder)
	err := filepath.WalkDir(inner, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			return os.Chmod(path, fs.ModeSetgid|0o770)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := found(t, sharedOn(t, dir), start, time.Hour, get(t, page)); got != none {
		t.Errorf("got %q", got)
	}
}

// TestSharedUser is one of the users of the next test, if it is told to be.
func TestSharedUser(t *testing.T) {
	script := os.Getenv("FALLBACKCACHE_USER")
	if script == "" {
		t.Skip("it is for TestSharedUsers")
	}
	syscall.Umask(0o077)
	c := &Cache{Dir: os.Getenv("FALLBACKCACHE_DIR"), Shared: true, MaxDiskFiles: 4}
	if err := c.Open(); err != nil {
		fmt.Println("cannot open:", err)
		return
	}
	now := time.Now()
	for step := range strings.SplitSeq(script, ";") {
		verb, url, _ := strings.Cut(step, " ")
		req, err := http.NewRequest("GET", "http://upstream.test/"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch verb {
		case "keep":
			resp := &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {"public, max-age=60"}}, Request: req,
				Body: io.NopCloser(strings.NewReader("by " + fmt.Sprint(os.Getuid()))), ContentLength: -1, TransferEncoding: []string{"chunked"}}
			if _, err := io.ReadAll(c.Keep(req, resp, now).Body); err != nil {
				t.Fatal(err)
			}
		case "find":
			body := "none"
			if a, ok := c.Find(req, 0, now); ok {
				b, _ := io.ReadAll(a.Response(req, Outcome{}).Body)
				body = string(b)
			}
			fmt.Printf("%s: %s\n", url, body)
		case "drop":
			req.Method = "PUT"
			c.Invalidate(req, &http.Response{StatusCode: 200})
		}
	}
	if s := c.Stats(); s.DiskErrors != 0 {
		fmt.Println("error:", s.DiskError)
	}
}

// Two users of one group share a folder: each finds, replaces, removes and
// evicts the other's answers. A third, of another group, gets nothing.
func TestSharedUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: several users of one folder, whom only root can be: run this test as root, CI does")
	}
	const group, alice, bob, eve = 64210, 64201, 64202, 64203
	top, err := os.MkdirTemp("", "fallbackcache")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	bin, dir := filepath.Join(top, "test"), filepath.Join(top, "cache")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skipf("NOT TESTED: several users of one folder: %v", err)
	}
	for _, err := range []error{
		os.Chmod(top, 0o755), os.WriteFile(bin, self, 0o755), os.Mkdir(dir, 0o770),
		os.Chown(dir, 0, group), os.Chmod(dir, fs.ModeSetgid|0o770),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	as := func(uid uint32, script string) string {
		t.Helper()
		cmd := exec.Command(bin, "-test.run=^TestSharedUser$")
		cmd.Dir = top
		cmd.Env = []string{"FALLBACKCACHE_USER=" + script, "FALLBACKCACHE_DIR=" + dir, "GORACE=atexit_sleep_ms=0"} // the race detector lingers for a second
		credential := &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{group}}
		if uid == eve {
			credential.Groups = nil
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("user %d: %v\n%s", uid, err, out)
		}
		return strings.TrimSuffix(string(out), "PASS\n")
	}
	// All begin at once, and one of them makes the store.
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if got := as([]uint32{alice, bob}[i%2], fmt.Sprintf("keep %d", i)); got != "" {
				t.Errorf("one of many: %s", got)
			}
		})
	}
	all.Wait()
	for _, c := range []struct {
		uid          uint32
		script, want string
	}{
		{alice, "keep a;keep b", ""},
		{bob, "find a;find none;keep b;find b", "a: by 64201\nnone: none\nb: by 64202\n"},
		{alice, "find b;drop a;find a", "b: by 64202\na: none\n"},
		{bob, "find a", "a: none\n"},
		{bob, "keep 1;keep 2;keep 3;keep 4;keep 5;find 5", "5: by 64202\n"},
		{eve, "find b", "cannot open: fallbackcache: disk store in " + dir + ": open " + dir + ": permission denied\n"},
	} {
		if got := as(c.uid, c.script); got != c.want {
			t.Errorf("user %d, %q:\n got %q\nwant %q", c.uid, c.script, got, c.want)
		}
	}
	if n := len(files(t, dir)); n > 4 {
		t.Errorf("there are %d files, more than the bound", n)
	}

	// What a user left unfinished is in nobody's way.
	left := filepath.Join(dir, diskFolder, newFile)
	if err := errors.Join(os.WriteFile(left, []byte("half"), 0o600), os.Chown(left, alice, group)); err != nil {
		t.Fatal(err)
	}
	if got := as(bob, "keep left") + as(alice, "find left"); got != "left: by 64202\n" {
		t.Errorf("after an unfinished file: %q", got)
	}

	// What another user used is not what was used longest ago.
	if got := as(alice, "keep old;find old"); got != "old: by 64201\n" {
		t.Fatal(got)
	}
	ago := time.Now().Add(-time.Hour)
	for _, name := range files(t, dir) {
		if err := os.Chtimes(name, ago, ago); err != nil {
			t.Fatal(err)
		}
	}
	if got := as(bob, "find old;keep 6;keep 7;keep 8;find old"); got != "old: by 64201\nold: by 64201\n" {
		t.Errorf("what another user used was evicted: %q", got)
	}
	if got := as(alice, "find old"); got != "old: by 64201\n" {
		t.Errorf("alice finds %q", got)
	}
}

// What is in memory only and was changed by another process does not come back
// with the next variant, nor keeps that one out.
func TestSharedDiskVariantsInMemory(t *testing.T) {
	in := func(language string) *http.Request {
		return get(t, page, "Authorization: alice", "Accept-Language: "+language)
	}
	for name, later := range map[string]time.Duration{"a newer one": time.Second, "an older one": -time.Second} {
		dir := sharedDir(t)
		one, two := sharedOn(t, dir), sharedOn(t, dir)
		for _, language := range []string{"de", "fr"} {
			keep(t, one, start, in(language), 200, "old", public, "Vary: Accept-Language")
		}
		put := request(t, "PUT", page)
		two.Invalidate(put, response(t, put, 204, ""))
		keep(t, one, start.Add(later), in("de"), 200, "new", public, "Vary: Accept-Language")
		for language, want := range map[string]string{"de": "new", "fr": none} {
			if got := found(t, one, start.Add(time.Second), 0, in(language)); got != want {
				t.Errorf("%s: found %q in %s, want %q", name, got, language, want)
			}
		}
	}
}
