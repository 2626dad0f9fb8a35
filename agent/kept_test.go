//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A link that somebody laid where an agent writes is replaced or refused, and
// what it points at stays as it is.
func TestLinksAreNotWrittenTo(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "ledger.overrides")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{path, path + ".new", filepath.Join(dir, "ledger.lock")} {
		if err := os.Symlink(victim, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := keep(path, []byte("[]")); err != nil {
		t.Errorf("with a link in its place: %v", err)
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the file is %v, %v", info, err)
	}
	if l, err := openLedger(filepath.Join(dir, "ledger"), "boot", time.Hour); err == nil {
		l.close()
		t.Error("a ledger whose lock is a link was opened")
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("what the links point at is now %q, %v", text, err)
	}
}
