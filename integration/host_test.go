//go:build linux

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/wire"
)

// host is a folder with policies, sockets and a ledger, and the agent of it.
type host struct {
	t      *testing.T
	dir    string
	notify *net.UnixConn
	cmd    *exec.Cmd // nil: not running
	log    *os.File
	http   *http.Client
}

// newHost makes a host whose agent is not running yet.
func newHost(t *testing.T, policies string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "ra") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: dir}
	h.write(policies)
	h.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if h.log, err = os.Create(h.path("log")); err != nil {
		t.Fatal(err)
	}
	h.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", h.socket())
		}}}
	t.Cleanup(func() {
		h.kill()
		h.notify.Close()
		h.log.Close()
		if t.Failed() {
			t.Logf("the agent's log:\n%s", h.logged())
		}
		os.RemoveAll(dir)
	})
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }
func (h *host) socket() string          { return h.path("agent.sock") }

func (h *host) logged() string {
	text, err := os.ReadFile(h.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// write replaces the policies in one step.
func (h *host) write(policies string) {
	h.t.Helper()
	if err := os.WriteFile(h.path("p.new"), []byte(policies), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(h.path("p.new"), h.path("p.yaml")); err != nil {
		h.t.Fatal(err)
	}
}

// serving is `resagent serve` for this host, not started.
func (h *host) serving(args ...string) *exec.Cmd {
	cmd := exec.Command(resagent, append([]string{"serve", "--policies", h.path("p.yaml"), "--ledger", h.path("ledger")}, args...)...)
	cmd.Env = h.env("NOTIFY_SOCKET=" + h.path("notify"))
	cmd.Stderr = h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (h *host) env(more ...string) []string {
	return append(append(os.Environ(), wire.SocketEnv+"="+h.socket(), "GORACE=atexit_sleep_ms=0 halt_on_error=1"), more...)
}

// start starts the agent and waits until it serves.
func (h *host) start() {
	h.t.Helper()
	h.launch()
	h.ready()
}

// launch starts the agent and does not wait.
func (h *host) launch() {
	h.t.Helper()
	h.cmd = h.serving()
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
}

// ready waits until the agent says that it serves.
func (h *host) ready() {
	h.t.Helper()
	h.notify.SetReadDeadline(time.Now().Add(soon))
	for buffer := make([]byte, 4096); ; {
		n, err := h.notify.Read(buffer)
		if err != nil {
			h.t.Fatalf("the agent does not say that it serves: %v; its log:\n%s", err, h.logged())
		}
		if strings.Contains(string(buffer[:n]), "READY=1") {
			return
		}
	}
}

// kill ends the agent at whatever instruction it is.
func (h *host) kill() {
	if h.cmd == nil {
		return
	}
	h.cmd.Process.Kill()
	h.cmd.Wait()
	h.cmd = nil
}

// run runs a subcommand and returns what it printed.
func (h *host) run(args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), soon)
	defer cancel()
	cmd := exec.CommandContext(ctx, resagent, args...)
	var out, problems bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = h.env(), &out, &problems
	err = cmd.Run()
	return out.String(), problems.String(), err
}

// reload puts changed policies in force; afterwards they are.
func (h *host) reload(policies string) {
	h.t.Helper()
	h.write(policies)
	if out, problems, err := h.run("reload"); err != nil {
		h.t.Fatalf("resagent reload: %v\n%s%s", err, out, problems)
	}
}

// get is what `curl --unix-socket` does.
func (h *host) get(path string, header ...string) (*http.Response, string, error) {
	req, err := http.NewRequest("GET", "http://resagent"+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// status is the agent's own account.
func (h *host) status() agent.Status {
	h.t.Helper()
	_, body, err := h.get("/v1/status")
	if err != nil {
		h.t.Fatalf("status: %v; the agent's log:\n%s", err, h.logged())
	}
	return parseStatus(h.t, body)
}

func parseStatus(t *testing.T, body string) (s agent.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("status: %v\n%s", err, body)
	}
	return s
}

// limit is what the agent says of one limit; the zero value where it has none.
func (h *host) limit(upstream string, kind wire.Kind) agent.LimitStatus {
	h.t.Helper()
	for _, l := range h.status().Limits {
		if l.Upstream == upstream && l.Kind == kind {
			return l
		}
	}
	return agent.LimitStatus{}
}

// sessions waits until n processes are attached.
func (h *host) sessions(n int) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("%d sessions", n), func() bool { return len(h.status().Sessions) == n })
}
