package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goyaml "github.com/goccy/go-yaml"
)

// make install and the package bring the same files, and none of them empty.
func TestInstallAndPackageBringTheSame(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("NOT TESTED: make install, for make is not here")
	}
	text, err := os.ReadFile("../systemd/nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var pack struct {
		Contents []struct{ Src, Dst, Type string }
	}
	if err := goyaml.Unmarshal(text, &pack); err != nil {
		t.Fatal(err)
	}
	packed := map[string]bool{}
	for _, c := range pack.Contents {
		if c.Type != "dir" && !strings.Contains(c.Dst, "/share/doc/") {
			// Debian's own places for two of them.
			packed[strings.NewReplacer("/vendor-completions/", "/site-functions/", ".gz", "").Replace(strings.TrimPrefix(c.Dst, "/usr"))] = true
		}
	}
	dir := t.TempDir()
	cmd := exec.Command("make", "-C", "..", "install", "DESTDIR="+dir, "PREFIX=/usr")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	for path := range packed {
		at := filepath.Join(dir, "usr", path)
		if strings.HasPrefix(path, "/etc/") {
			at = filepath.Join(dir, path)
		}
		if info, err := os.Stat(at); err != nil || info.Size() == 0 || info.Mode().Perm()&0o044 != 0o044 {
			t.Errorf("%s is in the package; make install brings %v, %v", path, info, err)
		}
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !packed[strings.TrimPrefix(strings.TrimPrefix(path, dir), "/usr")] {
			t.Errorf("make install brings %s, and the package does not", strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	check := exec.Command(filepath.Join(dir, "usr/bin/resagent"), "check", "--strict", filepath.Join(dir, "etc/resagent/policies.yaml"))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("the first policy file: %v\n%s", err, out)
	}
}
