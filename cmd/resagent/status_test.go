package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// resagentFor is this test's own binary as the command resagent, for a user who may
// not be us.
func resagentFor(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ra")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, "resagent"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// Who is not in the socket's group is told so.
func TestStatusAndTopWithoutPermission(t *testing.T) {
	bin := resagentFor(t)
	path := filepath.Join(filepath.Dir(bin), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"top"}, {"top", "--once"}} {
		cmd := exec.Command(bin, append(args, "--socket", path)...)
		if os.Getuid() == 0 { // who may use every socket
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		want := "resagent: cannot reach the agent at " + path + ": permission denied: the socket's group may use it: ls -l " + path + "\n"
		if cmd.ProcessState.ExitCode() != 1 || string(out) != want {
			t.Errorf("%s: %v, %q; want exit code 1 and %q", strings.Join(args, " "), err, out, want)
		}
	}
}

func TestOnlyOf(t *testing.T) {
	const text = `{"pid":1,"more":{"of":"a newer agent"},"upstreams":[{"name":"a"},{"name":"b"}],"limits":[{"upstream":"b"},7],
		"circuits":[{"upstream":"a","authority":"x"}],"forced":{"a":{"to":"open"},"b":{"to":"closed"}}}`
	got, err := onlyOf([]byte(text), "a")
	const want = `{"circuits":[{"upstream":"a","authority":"x"}],"forced":{"a":{"to":"open"}},"limits":[],"more":{"of":"a newer agent"},"pid":1,"upstreams":[{"name":"a"}]}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if got, err := onlyOf([]byte(`{}`), "a"); err != nil || string(got) != `{}` {
		t.Errorf("%s, %v of an empty answer", got, err)
	}
	if _, err := onlyOf([]byte(`[]`), "a"); err == nil {
		t.Error("a list is taken for an answer")
	}
}
