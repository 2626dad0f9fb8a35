//go:build linux

package integration

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// A second agent says what is in its way, and does not disturb the first.
func TestSecondAgent(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, seeded(t))
	h := newHost(t, bulkhead(u, 2))
	h.start()
	w := h.worker()
	w.call(u, pathHold, 3)
	u.inFlight(2)
	for _, c := range []struct {
		what string
		args []string
		says []string
	}{
		{"on the same socket", []string{"--ledger", h.path("other-ledger")}, []string{h.socket(), "in use by another process", "stop that one or choose another path"}},
		{"on the same ledger", []string{"--socket", h.path("other.sock"), "--admin-socket", h.path("other-admin.sock")}, []string{h.path("ledger"), "in use by another agent", "--ledger"}},
	} {
		second := h.serving(c.args...)
		said, err := os.Create(h.path("second"))
		if err != nil {
			t.Fatal(err)
		}
		second.Stderr = said
		err = second.Run()
		said.Close()
		exit := new(exec.ExitError)
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("a second agent %s: %v, want exit code 1", c.what, err)
		}
		text, err := os.ReadFile(said.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.says {
			if !strings.Contains(string(text), want) {
				t.Errorf("a second agent %s does not say %q:\n%s", c.what, want, text)
			}
		}
	}
	if s := h.status(); s.PID != h.cmd.Process.Pid || len(s.Sessions) != 1 {
		t.Errorf("the first agent is disturbed: pid %d, want %d; %d sessions, want 1", s.PID, h.cmd.Process.Pid, len(s.Sessions))
	}
	if n := u.count().inFlight; n != 2 {
		t.Errorf("%d calls in flight, want the limit of 2", n)
	}
	u.release()
	if r := w.finish(); r.OK != 3 {
		t.Errorf("%+v, want 3 good answers", r)
	}
	if _, err := os.Lstat(h.path("other.sock")); err == nil {
		t.Error("the agent that did not start left a socket")
	}
}

// What anybody with curl can ask.
func TestHTTP(t *testing.T) {
	t.Parallel()
	h := newHost(t, "version: 1\nupstreams: {shop: {match: [{host: shop.test}], bulkhead: {max_concurrent: 3}}}\n")
	h.start()
	w := h.worker()
	u := newUpstream(t, seeded(t))
	w.call(u, pathNow, 1)
	h.sessions(1)

	if resp, body, err := h.get("/healthz"); err != nil || resp.StatusCode != 200 || !strings.Contains(body, `"ok"`) {
		t.Errorf("/healthz: %v %v %s", resp, err, body)
	}
	s := h.status()
	if s.PID != h.cmd.Process.Pid || s.Generation != 1 || s.Named != 1 || s.Ledger != "kept" {
		t.Errorf("/v1/status: %+v", s)
	}
	if one := s.Sessions[0]; one.PID != w.cmd.Process.Pid || one.UID != os.Getuid() || !one.Shares {
		t.Errorf("/v1/status: session %+v, want pid %d, uid %d, sharing", one, w.cmd.Process.Pid, os.Getuid())
	}

	resp, body, err := h.get("/v1/policies")
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("/v1/policies: %v %v", resp, err)
	}
	tag := resp.Header.Get("ETag")
	if tag != `"`+s.ETag+`"` {
		t.Errorf("/v1/policies: ETag %s, and status says %q", tag, s.ETag)
	}
	set, err := policies.ParseJSON([]byte(body), "answer")
	if err != nil || set.Upstreams["shop"].Bulkhead == nil || set.Upstreams["shop"].Bulkhead.MaxConcurrent != 3 {
		t.Errorf("/v1/policies: %v\n%s", err, body)
	}
	if resp, body, err := h.get("/v1/policies", "If-None-Match", tag); err != nil || resp.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("/v1/policies with its ETag: %v %v %q, want 304", resp, err, body)
	}
	h.reload("version: 1\nupstreams: {}\n")
	if resp, _, err := h.get("/v1/policies", "If-None-Match", tag); err != nil || resp.StatusCode != 200 || resp.Header.Get("ETag") == tag {
		t.Errorf("/v1/policies with the ETag of an earlier set: %v %v, want 200 and another", resp, err)
	}

	// Changes are not made on this socket, nor sessions without asking.
	for path, want := range map[string]int{"/v1/session": http.StatusUpgradeRequired, "/v1/reload": http.StatusNotFound, "/": http.StatusNotFound} {
		if resp, _, err := h.get(path); err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v %v, want %d", path, resp, err, want)
		}
	}
	w.finish()
}

// The very command that the documentation shows.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("curl is not here: install it (Debian package curl); the agent's socket is made for it")
	}
	h := newHost(t, "version: 1\n")
	h.start()
	out, err := exec.Command(curl, "-sS", "--fail", "--max-time", "10", "--unix-socket", h.socket(), "http://resagent/v1/status").Output()
	if err != nil {
		t.Fatalf("curl: %v", err)
	}
	if s := parseStatus(t, string(out)); s.PID != h.cmd.Process.Pid {
		t.Errorf("curl got the status of pid %d, want %d", s.PID, h.cmd.Process.Pid)
	}
}

// systemd opens the socket; the agent starts with the first client.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Fatal("systemd-socket-activate is not here: install systemd; without it nobody knows whether the agent takes systemd's sockets")
	}
	u := newUpstream(t, seeded(t))
	h := newHost(t, bulkhead(u, 2))
	u.allow(2)
	serve := h.serving("--socket", filepath.Join(h.dir, "never.sock"))
	serve.Args = append([]string{activate, "-l", h.socket(), "--fdname=agent", "-E", "NOTIFY_SOCKET"}, serve.Args...)
	serve.Path = activate
	h.cmd = serve
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "systemd-socket-activate listens", func() bool { _, err := os.Lstat(h.socket()); return err == nil })
	w := h.newcomer()
	w.call(u, pathNow, 1)
	h.ready() // nothing started it but the worker's first call
	h.sessions(1)
	h.eventually("the worker has the agent's policies", func() bool {
		w.call(u, pathNow, 1)
		return h.limit("shop", wire.Bulkhead).Processes == 1
	})
	w.call(u, pathHold, 5)
	u.inFlight(2)
	throughout(t, 50*time.Millisecond, "the limit holds", func() bool { return u.count().inFlight == 2 })
	u.release()
	if r := w.finish(); r.OK != r.Calls {
		t.Errorf("%+v, want good answers to all calls", r)
	}
	noneGranted(h)
	if _, err := os.Lstat(h.path("never.sock")); err == nil {
		t.Error("the agent made a socket of its own beside the one of systemd")
	}
}
