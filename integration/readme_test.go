package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is one fenced block of README.md.
type block struct {
	line     int // of its first line of text
	language string
	name     string // the file it stands for, the second word of the fence
	text     string
}

// readme gives the blocks of README.md in order.
func readme(t *testing.T) (blocks []block) {
	t.Helper()
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	for i, line := range strings.Split(string(data), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{line: i + 2}
			open.language, open.name, _ = strings.Cut(fence, " ")
		case isFence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("README.md:%d: the block is never closed", open.line)
	}
	return blocks
}

// snippetImports are the packages that snippets may use without saying so.
var snippetImports = map[string]string{
	"context": "context", "errors": "errors", "http": "net/http", "log": "log",
	"transport":     module + "transport",
	"policies":      module + "policies",
	"fallbackcache": module + "fallbackcache",
	"idempotency":   module + "idempotency",
	"policyfile":    module + "policies/policyfile",
}

// The Go snippets compile. Those of one README stand below each other, as one
// would read them; a later one may use what an earlier one made.
func TestReadmeSnippetsCompile(t *testing.T) {
	snippets := 0
	for _, b := range readme(t) {
		if b.language != "go" {
			continue
		}
		snippets++
		if out, err := compileSnippet(t, b.text); err != nil {
			t.Errorf("README.md:%d: the snippet does not compile: %v\n%s", b.line, err, out)
		}
	}
	if snippets < 3 {
		t.Errorf("README.md has %d Go snippets, want at least 3", snippets)
	}
}

// compileSnippet builds the statements as the body of a function, in a package
// that exists only in an overlay.
func compileSnippet(t *testing.T, text string) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	body := "func snippet() error {\n" + text + "\n"
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+body+"return nil}", 0)
	if err != nil {
		return nil, err
	}
	var header strings.Builder
	header.WriteString("package readme\nimport (\n")
	used, made := names(file)
	for _, name := range used {
		if path, ok := snippetImports[name]; ok {
			fmt.Fprintf(&header, "%q\n", path)
		}
	}
	header.WriteString(")\n")
	for _, name := range made {
		body += "_ = " + name + "\n"
	}
	if !slices.Contains(made, "client") && slices.Contains(used, "client") {
		header.WriteString("var client *http.Client\n")
		if !slices.Contains(used, "http") {
			return nil, fmt.Errorf("it uses client and not package http")
		}
	}
	source := filepath.Join(dir, "snippet.go")
	overlay := filepath.Join(dir, "overlay.json")
	where, err := filepath.Abs("readme/snippet.go")
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := json.Marshal(map[string]any{"Replace": map[string]string{where: source}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, []byte(header.String()+body+"return nil\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, mapping, 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command("go", "build", "-overlay", overlay, "-o", os.DevNull, "./readme").CombinedOutput()
}

// names lists the identifiers that stand before a dot, and those that the
// function's own statements define.
func names(file *ast.File) (used, made []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := s.X.(*ast.Ident); ok && !slices.Contains(used, id.Name) {
				used = append(used, id.Name)
			}
		}
		return true
	})
	for _, statement := range file.Decls[0].(*ast.FuncDecl).Body.List {
		if a, ok := statement.(*ast.AssignStmt); ok && a.Tok == token.DEFINE {
			for _, left := range a.Lhs {
				if id := left.(*ast.Ident); id.Name != "_" && !slices.Contains(made, id.Name) {
					made = append(made, id.Name)
				}
			}
		}
	}
	return used, made
}

// needsRoot are commands that change the machine; a booted systemd tests them.
var needsRoot = regexp.MustCompile(`^(sudo|systemctl) `)

// TestReadmeCommands types what the README says, in order, into one shell in a
// folder with the README's files, and compares what comes out. Make targets
// are only looked up: they would test or build all of this again.
func TestReadmeCommands(t *testing.T) {
	dir, err := os.MkdirTemp("", "ra") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	resagent := filepath.Join(dir, "bin", "resagent")
	if out, err := exec.Command("go", "build", "-o", resagent, "../cmd/resagent").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	script := "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"
	type step struct {
		line   int
		typed  string
		expect []string
	}
	var steps []*step
	for _, b := range readme(t) {
		if b.name != "" {
			if err := os.WriteFile(filepath.Join(dir, b.name), []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if b.language != "console" {
			continue
		}
		for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
			typed, isCommand := strings.CutPrefix(line, "$ ")
			target, isMake := strings.CutPrefix(typed, "make ")
			switch {
			case !isCommand && len(steps) > 0:
				last := steps[len(steps)-1]
				last.expect = append(last.expect, line)
			case isMake:
				cmd := exec.Command("make", "-n", target)
				cmd.Dir = ".."
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("README.md:%d: make knows no target %q: %s", b.line+i, target, out)
				}
			case !needsRoot.MatchString(typed):
				script += fmt.Sprintf("echo '=== %d'\n%s\n", len(steps), typed)
				steps = append(steps, &step{line: b.line + i, typed: typed})
			}
		}
	}
	shell := exec.Command("bash", "-c", script)
	shell.Dir = dir
	shell.Env = append(os.Environ(), "PATH="+filepath.Dir(resagent)+":"+os.Getenv("PATH"), "RESAGENT_SOCKET=")
	var out bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &out
	failed := shell.Run()
	parts := regexp.MustCompile(`(?m)^=== \d+\n`).Split(out.String(), -1)[1:]
	if failed != nil || len(parts) != len(steps) {
		at := steps[max(len(parts)-1, 0)]
		t.Fatalf("README.md:%d: %q failed: %v; all output:\n%s", at.line, at.typed, failed, out.String())
	}
	for i, s := range steps {
		for _, want := range s.expect {
			pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`, ".*")
			pattern = regexp.MustCompile(" +").ReplaceAllString(pattern, " +") // columns move with what stands in them
			if !regexp.MustCompile(`(?m)^` + pattern + `$`).MatchString(parts[i]) {
				t.Errorf("README.md:%d: %q does not print %q, but:\n%s", s.line, s.typed, want, parts[i])
			}
		}
	}
}
