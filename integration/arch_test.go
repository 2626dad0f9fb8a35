package integration

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/resagent/resagent/"

// imports is the table of DESIGN.md: for each package of ours, what it may
// import beyond the standard library. Tests may import anything.
var imports = map[string][]string{
	"policies":            {},
	"idempotency":         {},
	"fallbackcache":       {lru},
	"agent/page":          {sys},
	"policies/policyfile": {"policies", yaml},
	"agent/wire":          {"policies", sys},
	"agent/client":        {"agent/wire", "agent/page", "policies", rate, sys},
	"agent":               {"agent/wire", "agent/page", "policies", "policies/policyfile", sys},
	"transport":           {"agent/client", "policies", "fallbackcache", "idempotency", retryablehttp, gobreaker, rate},
	"cmd/resagent":        {"agent", "agent/wire", "agent/page", "agent/client", "policies", "policies/policyfile", "transport", "fallbackcache", "idempotency", pflag, sys},
	"integration":         {}, // tests only

	"idempotency/storetest": {"idempotency"},

	"idempotency/sqlitestore": {"idempotency", sqlite, sys},

	"integration/contract":  {},
	"integration/scenarios": {}, // tests only
}

// Modules from outside; each has its reason in DESIGN.md.
const (
	sys           = "golang.org/x/sys"
	rate          = "golang.org/x/time"
	yaml          = "github.com/goccy/go-yaml"
	pflag         = "github.com/spf13/pflag"
	retryablehttp = "github.com/hashicorp/go-retryablehttp"
	cleanhttp     = "github.com/hashicorp/go-cleanhttp"
	gobreaker     = "github.com/sony/gobreaker/v2"
	sqlite        = "modernc.org/sqlite"
	lru           = "github.com/hashicorp/golang-lru/v2"
)

// transportLinks is all that a program gets that imports the transport, beside
// the standard library and packages of ours.
var transportLinks = []string{retryablehttp, cleanhttp, gobreaker, rate, sys, lru}

// systems are those the packages must keep to the table on.
var systems = []string{"linux", "darwin", "windows"}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
	Module     *struct{ Path string }
}

// list runs go list for an operating system.
func list(t *testing.T, goos string, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Imports,Standard,Module"}, args...)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %q: %v", args, err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// permitted reports whether the path is, or lies in the module of, one of
// names; names of ours must be exact.
func permitted(path string, names []string) bool {
	if ours, ok := strings.CutPrefix(path, module); ok {
		return slices.Contains(names, ours)
	}
	return slices.ContainsFunc(names, func(n string) bool { return path == n || strings.HasPrefix(path, n+"/") })
}

func TestImportsKeepToTheTable(t *testing.T) {
	for _, goos := range systems {
		seen := map[string]bool{}
		for _, p := range list(t, goos, "./...") {
			name := strings.TrimPrefix(p.ImportPath, module)
			seen[name] = true
			allowed, ok := imports[name]
			if !ok {
				t.Errorf("package %s is not in the import table; add it there and to DESIGN.md", name)
				continue
			}
			for _, path := range p.Imports {
				if strings.Contains(strings.Split(path, "/")[0], ".") && !permitted(path, allowed) {
					t.Errorf("%s: %s imports %s; the table allows %q", goos, name, path, allowed)
				}
			}
		}
		if goos != "linux" {
			continue // some packages have no files there
		}
		for name := range maps.Keys(imports) {
			if !seen[name] {
				t.Errorf("the import table has %s, which does not exist", name)
			}
		}
	}
}

func TestTransportLinksLittle(t *testing.T) {
	for _, goos := range systems {
		var foreign []string
		for _, p := range list(t, goos, "-deps", "./transport") {
			if p.Standard || strings.HasPrefix(p.ImportPath, module) || permitted(p.ImportPath, transportLinks) {
				continue
			}
			foreign = append(foreign, p.ImportPath)
		}
		if foreign != nil {
			t.Errorf("%s: a program with the transport would link %q; it may link %q", goos, foreign, transportLinks)
		}
	}
}

// The libraries it is composed of are really there: the composition is the
// product.
func TestTransportLinksWhatItIsComposedOf(t *testing.T) {
	linked := map[string]bool{}
	for _, p := range list(t, "linux", "-deps", "./transport") {
		if p.Module != nil {
			linked[p.Module.Path] = true
		}
	}
	for _, m := range []string{retryablehttp, gobreaker, rate} {
		if !linked[m] {
			t.Errorf("transport does not link %s", m)
		}
	}
}

// YAML, command-line and test code stays out of what others link.
func TestOnlyTheFilesPackageReadsYAML(t *testing.T) {
	for _, root := range []string{"./transport", "./agent/client", "./policies", "./fallbackcache", "./idempotency"} {
		for _, p := range list(t, "linux", "-deps", root) {
			for _, m := range []string{yaml, pflag, "testing"} {
				if permitted(p.ImportPath, []string{m}) {
					t.Errorf("%s links %s", root, p.ImportPath)
				}
			}
		}
	}
}
