//go:build linux

package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

const (
	// cacheWorkerEnv makes this test binary a process with a cache: "storm" or
	// "fetch". cacheDirEnv is its folder, cacheURLEnv the upstream of "fetch".
	cacheWorkerEnv = "RESAGENT_TEST_CACHE"
	cacheDirEnv    = "RESAGENT_TEST_CACHE_DIR"
	cacheURLEnv    = "RESAGENT_TEST_CACHE_URL"

	stormKeys  = 200
	stormBytes = 1 << 20
	stormFiles = 80
	outageKeys = 200
)

func cacheWork() {
	if os.Getenv(cacheWorkerEnv) == "fetch" {
		fetch()
		return
	}
	storm()
}

func stormCache() *fallbackcache.Cache {
	return &fallbackcache.Cache{Dir: os.Getenv(cacheDirEnv), MaxBytes: 256 << 10, MaxDiskBytes: stormBytes, MaxDiskFiles: stormFiles}
}

// stormRequest is one of some keys, by one of three users.
func stormRequest(method string, key, user int) *http.Request {
	req, err := http.NewRequest(method, "http://upstream.test/"+strconv.Itoa(key), nil)
	if err != nil {
		panic(err)
	}
	if user > 0 {
		req.Header.Set("Authorization", "Bearer "+strconv.Itoa(user))
	}
	return req
}

// sealed is a body that tells whose it is, and carries its own hash.
func sealed(key, user int, filler []byte) []byte {
	text := fmt.Appendf(nil, "%d %d %x", key, user, filler)
	sum := sha256.Sum256(text)
	return append(text, hex.EncodeToString(sum[:])...)
}

// broken says what is wrong with a body that was found for a key and user.
func broken(body []byte, key, user int) string {
	const digits = 2 * sha256.Size
	if len(body) < digits {
		return fmt.Sprintf("torn: %d bytes", len(body))
	}
	text, sum := body[:len(body)-digits], body[len(body)-digits:]
	if want := sha256.Sum256(text); hex.EncodeToString(want[:]) != string(sum) {
		return "torn: its hash is another's"
	}
	if !bytes.HasPrefix(text, fmt.Appendf(nil, "%d %d ", key, user)) {
		return fmt.Sprintf("for key %d and user %d it says %.20q", key, user, text)
	}
	return ""
}

// storm stores, finds and invalidates until it is killed. It says what was
// wrong, and at the end how often it found something.
func storm() {
	cache := stormCache()
	if err := cache.Open(); err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	go func() { // the end of standard input ends it
		io.Copy(io.Discard, os.Stdin)
		s := cache.Stats()
		fmt.Printf("hits %d stored %d\n", s.Hits, s.DiskStored)
		if s.DiskErrors > 0 || s.DiskDamaged > 0 {
			fmt.Printf("stats: %+v\n", s)
			os.Exit(1)
		}
		os.Exit(0)
	}()
	for {
		key, user := rand.IntN(stormKeys), rand.IntN(3)
		switch rand.IntN(20) {
		case 0:
			req := stormRequest("PUT", key, user)
			cache.Invalidate(req, &http.Response{StatusCode: 204, Header: http.Header{}})
		case 1, 2, 3, 4, 5, 6, 7, 8:
			filler := make([]byte, rand.IntN(16<<10))
			for i := range filler {
				filler[i] = byte(i)
			}
			body := sealed(key, user, filler)
			req := stormRequest("GET", key, user)
			resp := cache.Keep(req, &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
				Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req}, time.Now())
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		default:
			req := stormRequest("GET", key, user)
			a, ok := cache.Find(req, time.Hour, time.Now())
			if !ok {
				continue
			}
			body, err := io.ReadAll(a.Response(req, fallbackcache.Outcome{}).Body)
			if wrong := broken(body, key, user); err != nil || wrong != "" {
				fmt.Println("wrong answer:", err, wrong)
				os.Exit(1)
			}
		}
		time.Sleep(time.Millisecond) // two cores are all there is
	}
}

// cacheProcess is a process of this binary with a cache.
type cacheProcess struct {
	cmd *exec.Cmd
	in  io.Closer
	out words
}

// words is what a process has said. It may be read while more comes.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func startCache(t *testing.T, what, dir, url string) *cacheProcess {
	t.Helper()
	p := &cacheProcess{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), cacheWorkerEnv+"="+what, cacheDirEnv+"="+dir, cacheURLEnv+"="+url, "RESAGENT_SOCKET="+filepath.Join(dir, "none"))
	p.cmd.Stdout, p.cmd.Stderr = &p.out, os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Ten processes on one folder, killed at random: nobody gets a wrong, torn or
// foreign answer, the bounds hold at every moment, and nothing stays behind.
func TestCacheFolderThroughKills(t *testing.T) {
	random := seeded(t)
	dir := t.TempDir()
	all := make([]*cacheProcess, 10)
	for i := range all {
		all[i] = startCache(t, "storm", dir, "")
	}
	end := time.Now().Add(4 * time.Second)
	if soak, err := time.ParseDuration(os.Getenv(soakEnv)); err == nil {
		end = time.Now().Add(soak)
	}
	kills, most := 0, 0
	for time.Now().Before(end) {
		<-time.After(time.Duration(random.IntN(40)) * time.Millisecond)
		i := random.IntN(len(all))
		all[i].cmd.Process.Kill()
		err := all[i].cmd.Wait()
		if status, ok := all[i].cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || all[i].out.String() != "" {
			t.Fatalf("a process ended by itself: %v\n%s", err, all[i].out.String())
		}
		kills++
		most = max(most, checkFolder(t, dir))
		all[i] = startCache(t, "storm", dir, "")
	}
	hits, stored := 0, 0
	for _, p := range all {
		p.in.Close()
	}
	for _, p := range all {
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, p.out.String())
		}
		var h, s int
		fmt.Sscanf(p.out.String(), "hits %d stored %d", &h, &s)
		hits, stored = hits+h, stored+s
	}
	t.Logf("%d kills, at most %d files; the last ten processes found %d and stored %d", kills, most, hits, stored)
	if hits+stored == 0 || most == 0 {
		t.Error("the processes did not do what they are here for")
	}

	t.Setenv(cacheDirEnv, dir)
	cache := stormCache()
	for key := range stormKeys {
		for user := range 3 {
			req := stormRequest("GET", key, user)
			if a, ok := cache.Find(req, time.Hour, time.Now()); ok {
				body, _ := io.ReadAll(a.Response(req, fallbackcache.Outcome{}).Body)
				if wrong := broken(body, key, user); wrong != "" {
					t.Error(wrong)
				}
			}
		}
		cache.Invalidate(stormRequest("PUT", key, 0), &http.Response{StatusCode: 204, Header: http.Header{}})
	}
	if s := cache.Stats(); s.DiskDamaged > 0 || s.DiskErrors > 0 {
		t.Errorf("%+v", s)
	}
	if left := checkFolder(t, dir); left != 0 {
		t.Errorf("%d files are left though every key was invalidated", left)
	}
}

// checkFolder takes the folder's lock, so that nothing changes, and compares
// what lies there with the bounds. It returns the number of entries.
func checkFolder(t *testing.T, dir string) (entries int) {
	t.Helper()
	root := filepath.Join(dir, "resagent-v1")
	lock, err := os.Open(filepath.Join(root, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0 // none of them has come so far
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	var size int64
	err = filepath.WalkDir(root, func(path string, one fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (one.IsDir() || filepath.Dir(path) == root) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := one.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a removal that went on without the lock
		}
		if err != nil {
			return err
		}
		entries++
		size += info.Size()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if entries > stormFiles || size > stormBytes {
		t.Errorf("%d files of %d bytes; the bounds are %d and %d", entries, size, stormFiles, stormBytes)
	}
	return entries
}

// told is what a "fetch" process got for one key.
type told struct {
	Status int
	Body   string
	Served string
	Took   time.Duration
	Err    string
}

// fetch gets every key, twice, and tells of the second time; then it waits to
// be killed.
func fetch() {
	set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"upstream": {
		Match:    []policies.Match{{Host: "127.0.0.1"}},
		Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour}},
		Retry:    &policies.Retry{Disabled: true},
	}}})
	if err != nil {
		panic(err)
	}
	cache := &fallbackcache.Cache{Dir: os.Getenv(cacheDirEnv)}
	if err := cache.Open(); err != nil {
		panic(err)
	}
	caller := &http.Client{Transport: &transport.Transport{Policies: set, Cache: cache, Agent: &client.Session{Socket: os.Getenv("RESAGENT_SOCKET")}}}
	answers := make([]told, outageKeys)
	for range 2 {
		for key := range answers {
			answers[key] = fetchOne(caller, key)
		}
	}
	json.NewEncoder(os.Stdout).Encode(answers)
	os.Stdout.Close()
	io.Copy(io.Discard, os.Stdin)
}

func fetchOne(caller *http.Client, key int) (a told) {
	var info transport.Info
	req, err := http.NewRequest("GET", os.Getenv(cacheURLEnv)+"/"+strconv.Itoa(key), nil)
	if err != nil {
		panic(err)
	}
	began := time.Now()
	resp, err := caller.Do(req.WithContext(transport.WithInfo(req.Context(), &info)))
	if err != nil {
		return told{Err: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return told{Err: err.Error()}
	}
	return told{Status: resp.StatusCode, Body: string(body), Served: string(info.Served), Took: time.Since(began)}
}

// outageControl says what the upstream allows for a key, and whether it may be
// given while the upstream is down.
func outageControl(key int) (control string, given bool) {
	switch key % 8 {
	case 3:
		return "no-store", false
	case 5:
		return "max-age=0, must-revalidate", false
	case 6:
		return "no-cache", false
	case 7:
		return "max-age=0, stale-if-error=0", false
	case 1:
		return "max-age=0", true
	case 2:
		return "private, max-age=0, stale-if-error=600", true
	}
	return "", true
}

// The upstream is killed, and the process that asked it; the next process
// answers from disk all that may be given, and nothing that may not.
func TestOutageAfterRestart(t *testing.T) {
	body := func(key string) string { return strings.Repeat(key+".", 10<<10/(len(key)+1)) }
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.URL.Path, "/")
		n, err := strconv.Atoi(key)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if control, _ := outageControl(n); control != "" {
			w.Header().Set("Cache-Control", control)
		}
		io.WriteString(w, body(key))
	}))
	var once sync.Once
	defer once.Do(upstream.Close)
	dir := t.TempDir()
	ask := func() []told {
		t.Helper()
		p := startCache(t, "fetch", dir, upstream.URL)
		defer p.cmd.Wait()
		defer p.cmd.Process.Kill()
		defer p.in.Close()
		var out []told
		if !within(soon, func() bool { return json.Unmarshal([]byte(p.out.String()), &out) == nil }) {
			t.Fatal("the process says nothing")
		}
		return out
	}
	for key, a := range ask() {
		if a.Status != 200 || a.Body != body(strconv.Itoa(key)) || a.Served != "upstream" {
			t.Fatalf("key %d, while all is well: %+v", key, a)
		}
	}
	once.Do(upstream.Close)
	var took []time.Duration
	for key, a := range ask() {
		control, given := outageControl(key)
		switch {
		case given && (a.Status != 200 || a.Body != body(strconv.Itoa(key)) || a.Served != "stale"):
			t.Errorf("key %d (%q) is not given: status %d, from %q, %s", key, control, a.Status, a.Served, a.Err)
		case !given && a.Err == "":
			t.Errorf("key %d (%q) must not be given, and was", key, control)
		case given:
			took = append(took, a.Took)
		}
	}
	slices.Sort(took)
	if len(took) > 0 {
		t.Logf("stale answers of 10 KiB: median %v, p99 %v of %d", took[len(took)/2], took[len(took)*99/100], len(took))
	}
}
