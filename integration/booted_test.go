//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resagent/resagent/agent"
)

const (
	// clientUID is an ordinary user of the machine.
	clientUID = "1000"

	machinePolicy = `version: 1
upstreams:
  local:
    match: [{host: 127.0.0.1}]
    bulkhead: {max_concurrent: 4, max_wait: 10s}
`
	machinePolicyWider = `version: 1
upstreams:
  local:
    match: [{host: 127.0.0.1}]
    bulkhead: {max_concurrent: 5, max_wait: 10s}
`
	machinePolicyBad = "version: 1\nupstreams: {x: {mach: []}}\n"
)

// packages builds two packages, the later an upgrade of the earlier.
func packages(t *testing.T) (older, newer string) {
	t.Helper()
	build := func(version string) string {
		dir := t.TempDir()
		cmd := exec.Command("make", "-C", "..", "--no-print-directory", "deb", "VERSION="+version, "DIST="+dir)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "MAKE") || strings.HasPrefix(s, "MFLAGS") })
		must(t, cmd)
		all, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(all) != 1 {
			t.Fatalf("make deb made %q, %v; want one package", all, err)
		}
		return all[0]
	}
	return build("0.0.1~test"), build("0.0.2~test")
}

// The whole life of the package on a Debian with systemd, with clients that
// call all the time and never fail: what README promises an operator.
func TestPackageInBootedSystemd(t *testing.T) {
	m := boot(t)
	older, newer := packages(t)
	copyInto(t, older, filepath.Join(m.root, "older.deb"))
	copyInto(t, newer, filepath.Join(m.root, "newer.deb"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyInto(t, self, filepath.Join(m.root, "worker"))
	m.write("/etc/systemd/journald.conf.d/test.conf", "[Journal]\nRateLimitIntervalSec=0\n")
	m.run("systemctl", "restart", "systemd-journald")
	clean := m.files()

	var answered atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Millisecond)
		answered.Add(1)
	}))
	m.upstream(server)

	m.run("dpkg", "-i", "/older.deb")
	m.write("/etc/resagent/policies.d/local.yaml", machinePolicy)
	for unit, want := range map[string]string{"resagent.socket": "active", "resagent-admin.socket": "active", "resagent.service": "inactive"} {
		if got, _ := m.try("systemctl", "is-active", unit); strings.TrimSpace(got) != want {
			t.Fatalf("after the installation %s is %q, want %s", unit, strings.TrimSpace(got), want)
		}
	}

	// The first use starts it, and an ordinary user gets policies.
	gid := strings.Split(m.run("getent", "group", "resagent"), ":")[2]
	clients := []*worker{m.worker(clientUID, gid), m.worker(clientUID, gid)}
	for _, w := range clients {
		w.order(order{URL: server.URL, Load: 6})
	}
	m.sessions(len(clients))
	if out, err := m.tryAs([]string{"-S", "1001", "-G", "1001"}, "resagent", "status"); err == nil {
		t.Errorf("a user outside the group resagent gets the status:\n%s", out)
	}
	if out, err := m.tryAs([]string{"-S", clientUID, "-G", gid}, "resagent", "reload"); err == nil {
		t.Errorf("a user outside the group resagent-admin may reload:\n%s", out)
	}

	// going waits until every client has an agent again and calls go on.
	going := func(after string) {
		t.Helper()
		m.sessions(len(clients))
		from := answered.Load()
		eventually(t, "calls after "+after, func() bool { return answered.Load() > from+100 })
		for _, w := range clients {
			w.mustNotFail()
		}
		if t.Failed() {
			t.Fatalf("calls failed during: %s", after)
		}
	}
	// newMain waits until systemd has another process of the service serve.
	newMain := func(before, what string) {
		t.Helper()
		eventually(t, "another process of the service after "+what, func() bool {
			now := m.property("MainPID")
			return now != "0" && now != before && m.property("ActiveState") == "active"
		})
	}
	going("the installation")

	m.write("/etc/resagent/policies.d/local.yaml", machinePolicyWider)
	m.run("systemctl", "reload", "resagent.service")
	if got := m.status(); got.Generation != 2 || got.Refused != "" {
		t.Errorf("after a good reload: generation %d, refused %q; want 2 and nothing", got.Generation, got.Refused)
	}
	m.write("/etc/resagent/policies.d/bad.yaml", machinePolicyBad)
	if out, err := m.try("systemctl", "reload", "resagent.service"); err == nil {
		t.Errorf("systemctl reload of bad policies succeeds:\n%s", out)
	}
	if got := m.status(); got.Generation != 2 || !strings.Contains(got.Refused, "bad.yaml:2:") {
		t.Errorf("after a bad reload: generation %d, refused %q; want 2 and the line of the mistake", got.Generation, got.Refused)
	}
	m.remove("/etc/resagent/policies.d/bad.yaml")
	going("reloads")

	// A watchdog that need not be waited for; the rest of the unit is as shipped.
	m.write("/etc/systemd/system/resagent.service.d/test.conf", "[Service]\nWatchdogSec=2s\n")
	m.run("systemctl", "daemon-reload")
	was := m.property("MainPID")
	m.run("systemctl", "restart", "resagent.service")
	newMain(was, "a restart")
	going("a restart")

	for range 3 {
		was = m.property("MainPID")
		m.run("systemctl", "kill", "--signal=KILL", "resagent.service")
		newMain(was, "SIGKILL")
		going("SIGKILL")
	}

	was = m.property("MainPID")
	m.run("kill", "-STOP", was)
	newMain(was, "the watchdog")
	if journal := m.run("journalctl", "--no-pager", "-u", "resagent.service"); !strings.Contains(journal, "Watchdog timeout") {
		t.Errorf("the journal does not tell of the watchdog:\n%s", journal)
	}
	going("the watchdog")

	m.crashLoop(clients)
	going("a crash loop")

	was = m.property("MainPID")
	m.run("dpkg", "-i", "/newer.deb")
	newMain(was, "an upgrade")
	if out := m.run("resagent", "version"); !strings.Contains(out, "0.0.2~test") {
		t.Errorf("after the upgrade the version is %s", out)
	}
	going("an upgrade")

	exposure := m.run("systemd-analyze", "security", "--no-pager", "resagent.service")
	found := regexp.MustCompile(`exposure level for resagent.service: ([\d.]+)`).FindStringSubmatch(exposure)
	if found == nil {
		t.Fatalf("no exposure score:\n%s", exposure)
	}
	t.Logf("live exposure of resagent.service: %s", found[1])
	if level, _ := strconv.ParseFloat(found[1], 64); level > maxExposure {
		t.Errorf("live exposure is %v, at most %v is allowed:\n%s", level, maxExposure, exposure)
	}

	for _, w := range clients {
		r := w.finish()
		t.Logf("client: %d calls, %d failed", r.Calls, r.Failed)
		if r.Failed > 0 || r.OK == 0 {
			t.Errorf("a client's report: %+v; want no failed call", r)
		}
	}
	m.remove("/etc/systemd/system/resagent.service.d")
	m.run("dpkg", "-P", "resagent")
	for name := range m.files() {
		if !clean[name] {
			t.Errorf("the purge leaves %s", name)
		}
	}
	if out := m.run("systemctl", "list-units", "--all", "--no-legend", "--plain", "resagent*"); out != "" {
		t.Errorf("after the purge systemd has: %s", out)
	}
}

// crashLoop kills the agent over bad files: it must not restart as fast as
// systemd can, and must serve soon after the files are mended.
func (m *machine) crashLoop(clients []*worker) {
	m.t.Helper()
	m.write("/etc/resagent/policies.d/bad.yaml", machinePolicyBad)
	before, _ := strconv.Atoi(m.property("NRestarts"))
	m.run("systemctl", "kill", "--signal=KILL", "resagent.service")
	began := time.Now()
	restarts := func() int {
		n, _ := strconv.Atoi(m.property("NRestarts"))
		return n - before
	}
	// Starts of 0, 0.1, 0.2, 0.4, 0.8, 1.6 s and 50 ms between them.
	eventually(m.t, "six restarts over bad files", func() bool { return restarts() >= 6 })
	if took := time.Since(began); took < 1500*time.Millisecond {
		m.t.Errorf("6 restarts over bad files within %v: it does not slow down", took)
	}
	m.remove("/etc/resagent/policies.d/bad.yaml")
	mended := time.Now()
	eventually(m.t, "an agent after the files were mended", func() bool {
		_, err := m.try("resagent", "status", "--json")
		return err == nil
	})
	m.t.Logf("%d restarts over bad files in %v; served %v after they were mended", restarts(), mended.Sub(began).Round(time.Millisecond), time.Since(mended).Round(time.Millisecond))
}

// status is the agent's own account.
func (m *machine) status() (s agent.Status) {
	m.t.Helper()
	out := m.run("resagent", "status", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		m.t.Fatalf("resagent status --json: %v\n%s", err, out)
	}
	return s
}

// sessions waits until n processes are attached, all of the ordinary user.
func (m *machine) sessions(n int) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("%d processes attached", n), func() bool {
		out, err := m.try("resagent", "status", "--json")
		var s agent.Status
		if err != nil || json.Unmarshal([]byte(out), &s) != nil || len(s.Sessions) != n {
			return false
		}
		for _, one := range s.Sessions {
			if strconv.Itoa(one.UID) != clientUID {
				m.t.Fatalf("a session of uid %d, want %s", one.UID, clientUID)
			}
		}
		return true
	})
}

// files is every file of the machine but for what is the system's own to
// change: the kernel's, logs, and the books of dpkg and systemd.
func (m *machine) files() map[string]bool {
	m.t.Helper()
	out := m.run("find", "/", "(", "-path", "/proc", "-o", "-path", "/sys", "-o", "-path", "/dev", "-o", "-path", "/tmp", "-o", "-path", "/var/tmp",
		"-o", "-path", "/var/log", "-o", "-path", "/run/log", "-o", "-path", "/run/systemd", "-o", "-path", "/run/credentials", ")", "-prune", "-o", "-print")
	all := make(map[string]bool)
	for name := range strings.Lines(out) {
		switch name = strings.TrimSpace(name); name {
		case "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/var/lib/dpkg/status-old":
			continue
		}
		all[name] = true
	}
	return all
}

func (m *machine) remove(path string) {
	m.t.Helper()
	m.run("rm", "-r", path)
}

func copyInto(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
