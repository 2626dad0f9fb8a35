//go:build linux

package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/wire"
)

// mostMemory is what the agent may hold, whatever its users do.
const mostMemory = 128 << 20

// Users of the host who mean harm: others are served throughout, memory stays
// bounded, and the log says each kind of trouble once.
func TestHostileUsers(t *testing.T) {
	h := newHost(t, machinePolicy)
	h.start()
	h.open()
	other := os.Getuid()
	if other == 0 {
		other = 65534
	} else {
		t.Log("NOT TESTED: that another user is served; run as root")
	}
	begin := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("unix", h.socket())
		for errors.Is(err, unix.EAGAIN) { // the flood is faster than the agent: the kernel has no more room for it
			time.Sleep(time.Millisecond)
			c, err = net.Dial("unix", h.socket())
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET /v1/session HTTP/1.1\r\nHost: resagent\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", wire.Upgrade)
		return c, bufio.NewReader(c)
	}
	// greeted is begin, up to where the hello is due.
	greeted := func() net.Conn {
		c, in := begin()
		for {
			line, err := in.ReadString('\n')
			if err != nil || strings.TrimSpace(line) == "" {
				return c
			}
		}
	}
	endless := func(c net.Conn, n int) {
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		for range n >> 20 {
			if _, err := c.Write(chunk); err != nil {
				return // the agent has had enough, as it should
			}
		}
	}
	hello := `{"type":"hello","version":1}` + "\n"
	for _, one := range []struct {
		name string
		do   func()
	}{
		{"many connections", func() {
			for range 5000 {
				begin()
			}
		}},
		{"no hello", func() {
			for range 50 {
				greeted()
			}
		}},
		{"garbage for a hello", func() {
			for range 200 {
				c := greeted()
				c.Write([]byte("\x00\x1b[2J\xff garbage\n"))
				c.Close()
			}
		}},
		{"a line of 1 GiB for a hello", func() { endless(greeted(), 1<<30) }},
		{"a line of 1 GiB after the hello", func() {
			c := greeted()
			c.Write([]byte(hello))
			endless(c, 1<<30)
		}},
		{"a request of 1 GiB", func() {
			c, err := net.Dial("unix", h.socket())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write([]byte("GET /"))
			endless(c, 1<<30)
		}},
		{"NUL and escape in names, forged claims", func() {
			for range 100 {
				c := greeted()
				c.Write([]byte(`{"type":"hello","version":1,"library":"\u0000\u001b[2J","cells":[{"upstream":"\u001b]0;x\u0007","kind":"bulkhead","index":-1,"epoch":65535},{"upstream":"local","kind":"bulkhead","index":99999999}]}` + "\n"))
				c.Write([]byte(`{"type":"open","cell":{"upstream":"\u0000\u001b[2J","kind":"bulkhead"}}` + "\n" + `{"type":"want","indexes":[-1,99999999]}` + "\n"))
				c.Close()
			}
		}},
	} {
		t.Run(one.name, func(t *testing.T) {
			one.do()
			if answer, err := healthAs(h, other); err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200") && other != os.Getuid() {
				t.Errorf("others are not served: %v %s", err, answer)
			}
			if held := memoryOf(t, h.cmd.Process.Pid); !raceDetector && held > mostMemory {
				t.Errorf("the agent holds %d MiB, at most %d are allowed", held>>20, mostMemory>>20)
			} else {
				t.Logf("RssAnon %d MiB", held>>20)
			}
		})
	}
	kinds := map[string]int{}
	for _, m := range regexp.MustCompile(`level=(?:WARN|ERROR) msg=("[^"]*"|\S+)`).FindAllStringSubmatch(h.logged(), -1) {
		kinds[m[1]]++
	}
	for kind, n := range kinds {
		if n > 1 {
			t.Errorf("the log says %s %d times, want once:\n%s", kind, n, h.logged())
		}
	}
	if len(kinds) == 0 {
		t.Errorf("the log says nothing of it:\n%s", h.logged())
	}
	if strings.ContainsAny(h.logged(), "\x00\x1b") {
		t.Errorf("the log has a peer's control characters: %q", h.logged())
	}
}

// A user who connects more often than the agent has descriptors: it is told so,
// and the others are served as before.
func TestDescriptorsForOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("NOT TESTED: connections of another user; run as root")
		return
	}
	h := newHost(t, machinePolicy)
	serve := h.serving()
	serve.Args = append([]string{"bash", "-c", `ulimit -n 64 && exec "$@"`, "bash", serve.Path}, serve.Args[1:]...)
	var err error
	if serve.Path, err = exec.LookPath("bash"); err != nil {
		t.Fatal(err)
	}
	h.cmd = serve
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	h.ready()
	h.open()
	told, err := connectAs(t, 65534, h.socket(), 200)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told, "this user has 3 connections already") {
		t.Errorf("the last of 200 connections was told %q", told)
	}
	h.http.Timeout = soon
	for range 10 {
		if resp, body, err := h.get("/healthz"); err != nil || resp.StatusCode != 200 {
			t.Fatalf("others are not served: %v %s", err, body)
		}
	}
	if n := strings.Count(h.logged(), "connection refused"); n != 1 {
		t.Errorf("the log says %d times that a connection was refused, want once", n)
	}
}

// connectAs makes n connections as another user, kept to the test's end, and
// gives what the last one was told.
func connectAs(t *testing.T, uid int, socket string, n int) (told string, err error) {
	asUser(uid, func(failed error) {
		var c net.Conn
		for err = failed; err == nil && n > 0; n-- {
			if c, err = net.Dial("unix", socket); err == nil {
				t.Cleanup(func() { c.Close() })
			}
		}
		if err != nil {
			return
		}
		c.SetReadDeadline(time.Now().Add(soon))
		all, _ := io.ReadAll(c)
		told = string(all)
	})
	return told, err
}

// healthAs asks as a user whether the agent is well.
func healthAs(h *host, uid int) (answer string, err error) {
	asUser(uid, func(failed error) {
		if err = failed; err != nil {
			return
		}
		var c net.Conn
		if c, err = net.Dial("unix", h.socket()); err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(soon))
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: resagent\r\nConnection: close\r\n\r\n")
		var all []byte
		all, err = io.ReadAll(c)
		answer = string(all)
	})
	return answer, err
}

// asUser runs do on a thread that is the user's, and that is never used again:
// credentials are a thread's.
func asUser(uid int, do func(failed error)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, no := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); no != 0 {
			do(no)
			return
		}
		do(nil)
	}()
	<-done
}

// open lets every user connect.
func (h *host) open() {
	h.t.Helper()
	for path, mode := range map[string]os.FileMode{h.dir: 0o755, h.socket(): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			h.t.Fatal(err)
		}
	}
}

// memoryOf is what a process holds of its own, in bytes.
func memoryOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no RssAnon:\n%s", text)
	}
	kib, _ := strconv.Atoi(string(found[1]))
	return kib << 10
}
