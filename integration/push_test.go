//go:build linux

package integration

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A changed policy is in force in processes that run, whichever way the agent
// is told; a bad one changes nothing.
func TestPolicyPush(t *testing.T) {
	u := newUpstream(t, seeded(t))
	h := newHost(t, bulkhead(u, 2))
	h.start()
	all := h.workers(2)
	for _, w := range all {
		w.call(u, pathHold, 20)
	}
	u.inFlight(2)

	h.reload(bulkhead(u, 5))
	u.inFlight(5)

	h.write(bulkhead(u, 7))
	if err := h.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	h.ready()
	u.inFlight(7)

	before := h.status()
	h.write(strings.NewReplacer("max_concurrent: 9", "max_concurrent: 0", "match", "mtach").Replace(bulkhead(u, 9)))
	_, problems, err := h.run("reload")
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("resagent reload with bad policies: %v, want exit code 1", err)
	}
	for _, want := range []string{"p.yaml:8:", "mtach", "p.yaml:9:", "max_concurrent"} {
		if !strings.Contains(problems, want) {
			t.Errorf("resagent reload does not say %q:\n%s", want, problems)
		}
	}
	after := h.status()
	if after.Generation != before.Generation || after.ETag != before.ETag {
		t.Errorf("a bad reload changed the set in force: generation %d, %s; before %d, %s", after.Generation, after.ETag, before.Generation, before.ETag)
	}
	if n := u.count().inFlight; n != 7 {
		t.Errorf("after a bad reload %d calls are in flight, want the 7 of the set in force", n)
	}

	// An upstream that is no longer named has no limit.
	h.reload(patient + "  other:\n    match: [{host: other.test}]\n")
	u.inFlight(40)
	u.release()
	for _, w := range all {
		if r := w.finish(); r.OK != 20 {
			t.Errorf("worker %s: %+v, want 20 good answers", w.name, r)
		}
	}
	noneGranted(h)
}

// With bad policies the agent is never ready, and never listens.
func TestServeWithBadPolicies(t *testing.T) {
	h := newHost(t, "version: 1\nupstreams:\n  shop:\n    bulkhead: {max_concurrent: many}\n    rate_limit: {rate: 0/s}\n")
	h.launch()
	exit := new(exec.ExitError)
	if err := h.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("resagent serve with bad policies: %v, want exit code 1", err)
	}
	for _, want := range []string{"p.yaml:4:", "p.yaml:5:"} {
		if !strings.Contains(h.logged(), want) {
			t.Errorf("resagent serve does not name %s:\n%s", want, h.logged())
		}
	}
	h.notify.SetReadDeadline(time.Now())
	buffer := make([]byte, 4096)
	if n, err := h.notify.Read(buffer); err == nil {
		t.Errorf("it told systemd %q", buffer[:n])
	}
	if _, err := net.Dial("unix", h.socket()); err == nil {
		t.Error("something listens")
	}
	if _, err := os.Lstat(h.socket()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a socket: %v", err)
	}
}
