package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// defaultFiles are the flags of a command line, with a folder in place of /etc.
func defaultFiles(t *testing.T, args ...string) (files *policyFiles, dir string) {
	t.Helper()
	dir = t.TempDir()
	flags := pflag.NewFlagSet("check", pflag.ContinueOnError)
	files = policyFlags(flags)
	*files.file, files.dropIns = filepath.Join(dir, "policies.yaml"), filepath.Join(dir, "policies.d")
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(files.dropIns, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"policies.yaml":      "version: 1\n",
		"policies.d/10.yaml": "upstreams: {a: {match: [{host: a}]}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return files, dir
}

// The default folder need not be there, but one that was read may not go: its
// upstreams would, and nobody would be told. An empty one says that they shall.
func TestDefaultDropInsVanish(t *testing.T) {
	files, dir := defaultFiles(t)
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	upstreams := func(want int) {
		t.Helper()
		if set, err := files.load(); err != nil || set.Len() != want {
			t.Errorf("%d upstreams, %v; want %d", set.Len(), err, want)
		}
	}
	away := filepath.Join(dir, "away")
	move(files.dropIns, away)
	upstreams(0)
	move(away, files.dropIns)
	upstreams(1)
	move(files.dropIns, away)
	if set, err := files.load(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is gone, and there are %d upstreams and the error %v", set.Len(), err)
	}
	if err := os.Mkdir(files.dropIns, 0o755); err != nil {
		t.Fatal(err)
	}
	upstreams(0)
}

// The default folder is for who names nothing: a file that is named is read
// alone, though it be the default one.
func TestDefaultDropIns(t *testing.T) {
	files, _ := defaultFiles(t)
	if set, err := files.load(); err != nil || set.Len() != 1 {
		t.Errorf("without flags: %d upstreams, %v; want that of the drop-in", set.Len(), err)
	}
	files, dir := defaultFiles(t, "--policies", defaultPolicies)
	*files.file = filepath.Join(dir, "policies.yaml") // stands for the default one
	if set, err := files.load(); err != nil || set.Len() != 0 {
		t.Errorf("with --policies: %d upstreams, %v; want none, those of the file alone", set.Len(), err)
	}
}

// An agent does not keep what reading its policies took.
func TestLoadAndFree(t *testing.T) {
	files, _ := defaultFiles(t)
	if err := os.WriteFile(*files.file, []byte("version: 1\n"+strings.Repeat("#\n", 300_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := files.loadAndFree(); err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if kept := (m.HeapSys - m.HeapReleased) >> 20; kept > 32 {
		t.Errorf("%d MiB are kept of what reading 600 KiB took, want hardly any", kept)
	}
}
