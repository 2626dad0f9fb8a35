package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// The count of failed starts is not written through a link.
func TestStartsFollowNoLink(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "ledger.starts")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path); err != nil {
		t.Fatal(err)
	}
	failedStarts{path}.failed(t.Context(), slog.New(slog.DiscardHandler), errors.New("no"), nil)
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("what the link points at is now %q, %v", text, err)
	}
}
