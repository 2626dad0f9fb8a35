package policyfile

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/resagent/resagent/policies"
)

// withStatic is a policy file with this in its upstream's fixed answer.
func withStatic(inside string) string {
	return "version: 1\nupstreams:\n  rates:\n    match: [{host: rates.internal}]\n    fallback:\n      static: {" + inside + "}\n"
}

func bodyOf(t *testing.T, s *policies.Snapshot) string {
	t.Helper()
	u := s.Lookup("GET", &url.URL{Scheme: "http", Host: "rates.internal", Path: "/"})
	if u == nil || u.Policy.Fallback == nil || u.Policy.Fallback.Static == nil {
		t.Fatalf("no fixed answer in %+v", u)
	}
	return u.Policy.Fallback.Static.Body
}

// A body_file is found beside the policy file, or drop-in, that names it.
func TestBodyFile(t *testing.T) {
	dir := write(t, map[string]string{
		"main.yaml":        withStatic("body_file: pages/sorry.html, content_type: text/html"),
		"pages/sorry.html": "<p>Sorry</p>\n\"&\"\n",
		"d/10.yaml":        "upstreams:\n  rates:\n    fallback: {static: {body_file: other.txt}}\n",
		"d/other.txt":      "from the drop-in",
		"e/10.yaml":        "upstreams:\n  rates:\n    fallback: {static: {body: written}}\n",
		"f/10.json":        `{"defaults": {"fallback": {"static": {"body_file": "../pages/sorry.html"}}}}`,
		"plain.yaml":       "version: 1\nupstreams:\n  rates: {match: [{host: rates.internal}], fallback: {static: {status: 200}}}\n",
		"full":             strings.Repeat("x", policies.MaxBody),
		"full.yaml":        withStatic("body_file: link"),
	})
	if err := os.Symlink("full", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		file, dropins string
		want          string
	}{
		{"main.yaml", "pages", "<p>Sorry</p>\n\"&\"\n"},
		{"main.yaml", "d", "from the drop-in"},
		{"main.yaml", "e", "written"},
		{"plain.yaml", "f", "<p>Sorry</p>\n\"&\"\n"},
		{"full.yaml", "pages", strings.Repeat("x", policies.MaxBody)},
	} {
		s, err := Load(in(c.file), in(c.dropins))
		if err != nil {
			t.Errorf("%s + %s: %v", c.file, c.dropins, err)
			continue
		}
		if got := bodyOf(t, s); got != c.want {
			t.Errorf("%s + %s: the body is %.40q, want %.40q", c.file, c.dropins, got, c.want)
		}
		// What goes to other processes is the text.
		wire, err := json.Marshal(s.Set())
		if err != nil {
			t.Fatal(err)
		}
		var set policies.Set
		if err := json.Unmarshal(wire, &set); err != nil {
			t.Fatalf("%s + %s: over the wire: %v", c.file, c.dropins, err)
		}
		there, err := policies.Compile(&set)
		if err != nil || there.ETag() != s.ETag() || bodyOf(t, there) != c.want {
			t.Errorf("%s + %s: another process has another set (%v)", c.file, c.dropins, err)
		}
	}

	s, err := Load(in("main.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range s.ExplainNamed("rates").Values {
		if v.Path == "fallback.static.body" && (v.Position.Line != 6 || v.Position.Column != 27 || filepath.Base(v.Position.File) != "main.yaml") {
			t.Errorf("explain says the body is from %s, want main.yaml:6:27", v.From())
		}
	}
	// A reload reads it again.
	if err := os.WriteFile(in("pages/sorry.html"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	after, err := Load(in("main.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if bodyOf(t, after) != "changed" || after.ETag() == s.ETag() {
		t.Errorf("after a change the body is %q, the ETag %s as before", bodyOf(t, after), s.ETag())
	}
	if changes, _ := after.Diff(s, 10); len(changes) != 1 || changes[0].Path != "fallback.static.body" {
		t.Errorf("the change is told as %v", changes)
	}
}

// Whatever is wrong with a body_file is said with file, line and column, and
// nothing is loaded.
func TestBodyFileMistakes(t *testing.T) {
	dir := write(t, map[string]string{
		"text":     "text",
		"large":    strings.Repeat("x", policies.MaxBody+1),
		"binary":   "\xff\xd8",
		"folder/x": "",
	})
	for _, c := range []struct{ inside, want string }{
		{"body_file: none.txt", "policies.yaml:6:27: upstreams.rates.fallback.static.body_file: DIR/none.txt is not there: write the path of a file, relative to this one"},
		{"body_file: text/none", "policies.yaml:6:27: upstreams.rates.fallback.static.body_file: DIR/text/none: not a directory: mend the path, or name another file"},
		{"body_file: folder", "policies.yaml:6:27: upstreams.rates.fallback.static.body_file: DIR/folder is a directory: name a file in it"},
		{"body_file: /dev/null", "policies.yaml:6:27: upstreams.rates.fallback.static.body_file: /dev/null is not a regular file: write the body to a file"},
		{"body_file: large", "policies.yaml:6:27: upstreams.rates.fallback.static.body_file: DIR/large is larger than 1024 KiB: give less: each process keeps a copy"},
		{"body_file: binary", "policies.yaml:6:27: upstreams.rates.fallback.static.body_file: DIR/binary is not UTF-8: give text: policies are carried as JSON"},
		{"body_file: 7", `policies.yaml:6:27: upstreams.rates.fallback.static.body_file: "7" is not the path of a file: write it in quotes, such as "sorry.html"`},
		{`body_file: ""`, `policies.yaml:6:27: upstreams.rates.fallback.static.body_file: "" is not the path of a file: write it in quotes, such as "sorry.html"`},
		{"body_file: [text]", `policies.yaml:6:27: upstreams.rates.fallback.static.body_file: "" is not the path of a file: write it in quotes, such as "sorry.html"`},
		{"body_file:", "policies.yaml:6:16: upstreams.rates.fallback.static.body_file: is empty: write the path of a file, or leave the key out"},
		{`body_file: text, body: ""`, "policies.yaml:6:27: upstreams.rates.fallback.static.body_file: stands beside body, or is there twice: keep one of them"},
		{`body: "", body_file: text`, "policies.yaml:6:37: upstreams.rates.fallback.static.body_file: stands beside body, or is there twice: keep one of them"},
		{"body_file: text, status: 204", "policies.yaml:6:27: upstreams.rates.fallback.static.body: an answer with status 204 has no body: leave out the body, or write another status"},
		{"body_file: text, body_file: text", "policies.yaml:6:44: upstreams.rates.fallback.static.body_file: stands beside body, or is there twice: keep one of them"},
		{"bodyfile: text", "policies.yaml:6:16: upstreams.rates.fallback.static.bodyfile: unknown key: write body"},
		{"methods: [get]", `policies.yaml:6:26: upstreams.rates.fallback.static.methods[0]: "get" has small letters, and methods are compared with case: write GET`},
		{"methods: []", `policies.yaml:6:25: upstreams.rates.fallback.static.methods: is an empty list: write methods in capitals, such as [GET, POST], or leave the key out`},
	} {
		name := filepath.Join(dir, "policies.yaml")
		if err := os.WriteFile(name, []byte(withStatic(c.inside)), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Load(name)
		if s != nil || err == nil {
			t.Errorf("%s: loaded, %v", c.inside, err)
			continue
		}
		if _, ok := errors.AsType[policies.Errors](err); !ok {
			t.Errorf("%s: the error is a %T, want policies.Errors", c.inside, err)
		}
		if got := strings.ReplaceAll(strings.TrimPrefix(err.Error(), dir+"/"), dir, "DIR"); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.inside, got, c.want)
		}
	}
}

// A text that is parsed by itself, perhaps a stranger's, opens no file.
func TestParseReadsNoBodyFile(t *testing.T) {
	dir := write(t, map[string]string{"text": "secret"})
	_, err := Parse(filepath.Join(dir, "policies.yaml"), []byte(withStatic("body_file: text")))
	if err == nil || !strings.Contains(err.Error(), "read the file with Load") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// What all files have together is bounded, as the set that they make is.
func TestBodyFilesTogether(t *testing.T) {
	var text strings.Builder
	text.WriteString("version: 1\nupstreams:\n")
	for i := range policies.MaxFileSize/policies.MaxBody + 1 {
		text.WriteString("  u" + string(rune('a'+i)) + ": {fallback: {static: {body_file: full}}}\n")
	}
	dir := write(t, map[string]string{"policies.yaml": text.String(), "full": strings.Repeat("x", policies.MaxBody)})
	if _, err := Load(filepath.Join(dir, "policies.yaml")); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB together") {
		t.Errorf("got %v, want a refusal", err)
	}
	// Six bytes of JSON each.
	if err := os.WriteFile(filepath.Join(dir, "full"), []byte(strings.Repeat("<", policies.MaxBody)), 0o644); err != nil {
		t.Fatal(err)
	}
	few := strings.Join(strings.SplitAfter(text.String(), "\n")[:7], "")
	if err := os.WriteFile(filepath.Join(dir, "policies.yaml"), []byte(few), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(dir, "policies.yaml")); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB as JSON") {
		t.Errorf("got %v, want a refusal", err)
	}
}
