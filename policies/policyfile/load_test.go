package policyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// write lays out files in a new folder, by their paths in it.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDesignExample(t *testing.T) {
	snapshot, err := Load("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	u := &url.URL{Scheme: "https", Host: "eu.pay.example.com", Path: "/v1/charges"}
	payments := snapshot.Lookup("POST", u)
	if payments == nil || payments.Name != "payments" {
		t.Fatalf("Lookup gave %v, want payments", payments)
	}
	p := payments.Policy
	want := policies.Timeout{Attempt: 2 * time.Second, Idle: time.Minute, Total: 8 * time.Second}
	if *p.Timeout != want {
		t.Errorf("timeout is %v, want %v", *p.Timeout, want)
	}
	if p.Bulkhead.MaxConcurrent != 64 || p.RateLimit.Rate != 200 || p.Fallback.Static.Body != "[]" || p.Idempotency.Header != "Idempotency-Key" {
		t.Errorf("the policy is %+v", p)
	}
}

// The same set in JSON is the same set.
func TestJSONFile(t *testing.T) {
	fromYAML, err := Load("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := fromYAML.Set().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{"policies.json": string(text), "same.yaml": string(text)})
	for _, name := range []string{"policies.json", "same.yaml"} {
		snapshot, err := Load(filepath.Join(dir, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if snapshot.ETag() != fromYAML.ETag() {
			t.Errorf("%s: the ETag is %s, want %s", name, snapshot.ETag(), fromYAML.ETag())
		}
	}
}

func TestDropins(t *testing.T) {
	dir := write(t, map[string]string{
		"policies.yaml": `version: 1
defaults:
  timeout: {attempt: 5s, total: 20s}
upstreams:
  orders:
    match: [{host: orders.internal}, {host: orders.example.com}]
    bulkhead: {max_concurrent: 10, max_wait: 1s}
    fallback: {static: {headers: {X-A: a, X-B: b}}}
`,
		"policies.d/20-later.yaml": `upstreams:
  orders:
    bulkhead: {max_concurrent: 30}
    fallback: {static: {headers: {X-B: later}}}
`,
		"policies.d/10-first.yml": `version: 1
defaults:
  timeout: {attempt: 7s}
upstreams:
  orders:
    match: [{host: new.internal}]
    bulkhead: {max_concurrent: 20, max_waiting: 0}
`,
		"policies.d/30.json":        `{"upstreams": {"stock": {"match": [{"host": "stock.internal"}]}}}`,
		"policies.d/40-empty.yaml~": "this is no policy file",
		"policies.d/.hidden.yaml":   "nor is this",
		"policies.d/35-empty.yaml":  "# everything is commented out\n",
		"policies.d/README":         "nor this",
	})
	snapshot, err := Load(filepath.Join(dir, "policies.yaml"), filepath.Join(dir, "policies.d"))
	if err != nil {
		t.Fatal(err)
	}
	orders := snapshot.Named("orders").Policy
	if b := orders.Bulkhead; b.MaxConcurrent != 30 || b.MaxWaiting != 0 || b.MaxWait != time.Second {
		t.Errorf("bulkhead is %+v, want 30 from the last file, 0 from the one between, 1s from the first", *b)
	}
	if orders.Timeout.Attempt != 7*time.Second || orders.Timeout.Total != 20*time.Second {
		t.Errorf("timeout is %+v, want attempt from the drop-in and total from the main file", *orders.Timeout)
	}
	if len(orders.Match) != 1 || orders.Match[0].Host != "new.internal" {
		t.Errorf("match is %v, want the drop-in's alone", orders.Match)
	}
	if h := orders.Fallback.Static.Headers; h["X-A"] != "a" || h["X-B"] != "later" {
		t.Errorf("headers are %v, want X-A kept and X-B replaced", h)
	}
	if snapshot.Named("stock") == nil {
		t.Error("the upstream that a drop-in adds is not there")
	}
	from := map[string]string{}
	for _, v := range snapshot.ExplainNamed("orders").Values {
		from[v.Path] = strings.TrimPrefix(v.From(), dir+string(filepath.Separator))
	}
	for path, want := range map[string]string{
		"bulkhead.max_concurrent": "policies.d/20-later.yaml:3:32",
		"bulkhead.max_waiting":    "policies.d/10-first.yml:7:49",
		"bulkhead.max_wait":       "policies.yaml:7:46",
		"bulkhead.scope":          "built-in",
	} {
		if from[path] != want {
			t.Errorf("%s comes from %s, want %s", path, from[path], want)
		}
	}
}

// A value that a drop-in overrides must be right all the same, and all errors
// of all files come at once.
func TestDropinHidesNothing(t *testing.T) {
	dir := write(t, map[string]string{
		"policies.yaml":   "version: 1\nupstreams:\n  a:\n    retry: {max_attempts: -1}\n",
		"d/10.yaml":       "version: 2\nupstreams:\n  a:\n    retry: {max_attempts: 4, max_attempts: 5}\n",
		"d/20.yaml":       "version: 1\nupstreams:\n  a:\n    retry: {max_attempts: 6}\n    bulkhead: {}\n",
		"d2/syntax.yaml":  "a: [\n",
		"d2/syntax2.yaml": "a: ]\n",
	})
	_, err := Load(filepath.Join(dir, "policies.yaml"), filepath.Join(dir, "d"))
	want := `policies.yaml:4:27: upstreams.a.retry.max_attempts: -1 is below 1: write a number of attempts, 1 or more
d/10.yaml:1:10: version: 2 is not known: write version: 1
d/10.yaml:4:30: upstreams.a.retry.max_attempts: the key is written twice, first in line 4: keep one of the two
d/20.yaml:5:5: upstreams.a.bulkhead.max_concurrent: is missing: write a number of calls, 1 or more`
	if got := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""); got != want {
		t.Errorf("the errors are\n%s\nwant\n%s", got, want)
	}
	_, err = Load(filepath.Join(dir, "policies.yaml"), filepath.Join(dir, "d2"))
	if wrong, ok := errors.AsType[policies.Errors](err); !ok || len(wrong) != 2 {
		t.Errorf("got %v, want one error for each of the two files that are not YAML", err)
	}
}

// A drop-in of 0 bytes, as a full disk leaves it, takes no upstream away in
// silence. Nothing to read is no error where somebody says so.
func TestEmptyDropin(t *testing.T) {
	dir := write(t, map[string]string{
		"policies.yaml":      "version: 1\n",
		"zero/10.yaml":       "",
		"space/10.json":      " \n\t\n",
		"comment/10.yaml":    "# nothing yet",
		"nobody/README":      "",
		"bad-too/10.yaml":    "",
		"bad-too/20-bad.yml": "a: [\n",
	})
	for name, want := range map[string]string{
		"zero":    "zero/10.yaml:1:1: there is nothing in the file: write it again, or remove it; a drop-in that is to say nothing has a comment",
		"space":   "space/10.json:1:1: there is nothing in the file",
		"bad-too": "there is nothing in the file: write it again, or remove it; a drop-in that is to say nothing has a comment\n" + filepath.Join(dir, "bad-too/20-bad.yml:1:4"),
		"comment": "",
		"nobody":  "",
	} {
		_, err := Load(filepath.Join(dir, "policies.yaml"), filepath.Join(dir, name))
		if got := fmt.Sprint(err); want != "" && !strings.Contains(got, want) || want == "" && err != nil {
			t.Errorf("%s: the error is %v, want %q", name, err, want)
		}
	}
}

func TestUnreadable(t *testing.T) {
	dir := write(t, map[string]string{
		"good.yaml":       "version: 1\n",
		"d/x.yaml/inside": "",
		"not-a-folder":    "",
	})
	good := filepath.Join(dir, "good.yaml")
	if err := os.Symlink("good.yaml", filepath.Join(dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop.yaml", filepath.Join(dir, "loop.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(dir, "link.yaml")); err != nil {
		t.Errorf("a symbolic link to a file: %v", err)
	}
	for name, c := range map[string]struct {
		path    string
		dropins []string
		want    string
		is      error
	}{
		"missing":            {path: "absent.yaml", want: "/absent.yaml: no such file or directory: write the policies there (version: 1 alone is enough), or name another file", is: fs.ErrNotExist},
		"dangling link":      {path: "dangling.yaml", want: "/dangling.yaml: no such file or directory: write", is: fs.ErrNotExist},
		"a directory":        {path: "d", want: "/d: is a directory: name a file in it"},
		"a device":           {path: "../../../../../../../../dev/zero", want: "is not a regular file"},
		"drop-in directory":  {path: "good.yaml", dropins: []string{filepath.Join(dir, "d")}, want: "/d/x.yaml: is a directory"},
		"missing folder":     {path: "good.yaml", dropins: []string{filepath.Join(dir, "absent.d")}, want: "/absent.d: the drop-in folder is not there: no such file or directory: make it, empty if there are no drop-ins, or name another", is: fs.ErrNotExist},
		"folder is a file":   {path: "good.yaml", dropins: []string{good}, want: "the drop-in folder cannot be read"},
		"a link to itself":   {path: "loop.yaml", want: "/loop.yaml: too many levels of symbolic links: mend the path, or name another file"},
		"file as a folder":   {path: "good.yaml/x", want: "not a directory"},
		"name without sense": {path: "a\x00b", want: "invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot, err := Load(dir+string(filepath.Separator)+c.path, c.dropins...)
			if err == nil || snapshot != nil {
				t.Fatalf("Load gave %v, %v; want no snapshot and an error", snapshot, err)
			}
			if !strings.Contains(err.Error(), c.want) || !filepath.IsAbs(err.Error()) {
				t.Errorf("the error is %q, want the file's name first and %q", err, c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("the error %v is not %v", err, c.is)
			}
		})
	}
}
