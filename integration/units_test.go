package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// maxExposure is the most that `systemd-analyze security` may find.
const maxExposure = 0.6

// The units are without a mistake that systemd can see, and sandboxed.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOT TESTED: the units, for systemd-analyze is not here: install systemd, CI does")
	}
	// The program need not be installed; its path must only lead somewhere.
	dir := t.TempDir()
	program := filepath.Join(dir, "resagent")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var units []string
	for _, name := range []string{"resagent.service", "resagent.socket", "resagent-admin.socket"} {
		text, err := os.ReadFile(filepath.Join("../systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/bin/resagent", program)), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	if out, err := exec.Command(analyze, append([]string{"verify"}, units...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}

	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", units[0]).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	found := regexp.MustCompile(`exposure level for resagent.service: ([\d.]+)`).FindSubmatch(out)
	if found == nil {
		t.Fatalf("systemd-analyze security gives no exposure:\n%s", out)
	}
	if level, _ := strconv.ParseFloat(string(found[1]), 64); level > maxExposure {
		t.Errorf("exposure is %v, at most %v is allowed:\n%s", level, maxExposure, out)
	}
}
