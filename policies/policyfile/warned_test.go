package policyfile

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/resagent/resagent/policies"
)

// Each of these files is good, and has the warnings of its golden file: the
// mistakes it makes, and nothing on its right neighbours.
func TestWarnedFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/warned/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d files (%v), want 10 or more", len(files), err)
	}
	rules := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, w := range warningsOf(t, filepath.Base(file), string(data)) {
				got.WriteString(w.String() + "\n")
				rules[w.Rule] = true
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("the warnings are\n%swant\n%s", &got, want)
			}
		})
	}
	// No rule without a file that has it warn.
	for _, source := range []string{"lint.go", "lint_rules.go", "lint_effect.go", "lint_matches.go"} {
		text, err := os.ReadFile("../" + source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:l\.warn\(|Rule: +)"([a-z-]+)"`).FindAllStringSubmatch(string(text), -1) {
			if !rules[m[1]] {
				t.Errorf("no file in testdata/warned has the warning %s", m[1])
			}
		}
	}
}

// What we ship and show is clean.
func TestShippedFilesAreClean(t *testing.T) {
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	first := read("../../systemd/policies.yaml")
	// What the first file of an installation suggests stands behind a # alone.
	suggested := regexp.MustCompile(`(?m)^#(  |[a-z])`).ReplaceAllString(first, "$1")
	if !strings.Contains(suggested, "\n  payments:\n    match:") || !strings.Contains(suggested, "\n  rates:\n") {
		t.Errorf("the suggestions of systemd/policies.yaml are not understood:\n%s", suggested)
	}
	texts := map[string]string{
		"design.yaml":              read("testdata/design.yaml"),
		"policies.yaml":            first,
		"policies.yaml, suggested": suggested,
	}
	for _, m := range regexp.MustCompile("(?s)```yaml (\\S+)\n(.*?)```").FindAllStringSubmatch(read("../../README.md"), -1) {
		if m[1] != "broken.yaml" {
			texts["README's "+m[1]] = m[2]
		}
	}
	if len(texts) < 4 {
		t.Errorf("found %d texts; README.md is not understood", len(texts))
	}
	for name, text := range texts {
		for _, w := range warningsOf(t, name, text) {
			t.Error(w)
		}
	}
}

func warningsOf(t *testing.T, name, text string) []policies.Warning {
	t.Helper()
	set, err := Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := policies.Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Warnings()
}

// A drop-in disables what an earlier file says, since it cannot take it away; what
// a drop-in says of a section that an earlier file disables has no effect.
func TestDisabledByADropin(t *testing.T) {
	on := "version: 1\nupstreams:\n  a:\n    match: [{host: a}]\n    bulkhead: {max_concurrent: 3}\n"
	off := "version: 1\nupstreams:\n  a:\n    match: [{host: a}]\n    bulkhead: {disabled: true}\n"
	dir := write(t, map[string]string{"on.yaml": on, "off.yaml": off, "on.d/10.yaml": on, "off.d/10.yaml": off,
		"on-off.d/10.yaml": on, "on-off.d/20.yaml": off, "off-on.d/10.yaml": off, "off-on.d/20.yaml": on, "neither.yaml": "version: 1\nupstreams:\n  a: {}\n"})
	for _, c := range []struct{ file, dropins, want string }{
		{"on.yaml", "off.d", ""},
		{"neither.yaml", "on-off.d", ""},
		{"on.yaml", "on-off.d", ""},
		{"neither.yaml", "off-on.d", "off-on.d/20.yaml:5:32: warning: upstreams.a.bulkhead.max_concurrent: bulkhead is disabled"},
		{"on.yaml", "off-on.d", "off-on.d/20.yaml:5:32: warning: upstreams.a.bulkhead.max_concurrent: bulkhead is disabled"},
		{"off.yaml", "on.d", "on.d/10.yaml:5:32: warning: upstreams.a.bulkhead.max_concurrent: bulkhead is disabled"},
	} {
		s, err := Load(filepath.Join(dir, c.file), filepath.Join(dir, c.dropins))
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for _, w := range s.Warnings() {
			got += strings.TrimPrefix(w.String(), dir+string(filepath.Separator))
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s with %s: the warnings are %q, want %q", c.file, c.dropins, got, c.want)
		}
	}
}
