// Package schema holds the JSON Schema of policy files to what the reader of
// package policyfile takes, in a module of its own: the product validates
// with its reader alone.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/resagent/resagent/policies/policyfile"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(policyfile.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policies.json", text); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("policies.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tree is a policy file as an editor sees it.
func tree(t *testing.T, text []byte) any {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var (
	readmeFile = regexp.MustCompile("(?ms)^```yaml (\\S+)\n(.*?)^```")
	yamlBlock  = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")
)

// Every file that is shown or shipped is to the schema what it is to the
// reader.
func TestExamples(t *testing.T) {
	s := compiled(t)
	files := map[string][]byte{}
	for _, name := range []string{"../../systemd/policies.yaml", "../../policies/policyfile/testdata/design.yaml", "every.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range readmeFile.FindAllSubmatch(readme, -1) {
		files["README.md, "+string(m[1])] = m[2]
	}
	if len(files) < 6 || yamlBlock.Match(readme) {
		t.Fatalf("found %d files, and blocks of YAML without a name: %v", len(files), yamlBlock.Match(readme))
	}
	for name, text := range files {
		_, wrong := policyfile.Parse("f.yaml", text)
		refused := s.Validate(tree(t, text))
		if (wrong == nil) != (refused == nil) {
			t.Errorf("%s: the reader says %v, the schema %v", name, wrong, refused)
		}
	}
}

// relations are the broken files that are wrong only as a whole, or as text,
// which a schema does not see.
var relations = []string{"anchors", "at-odds", "no-version", "repeated-match", "tie", "two-documents"}

func TestBrokenFiles(t *testing.T) {
	s := compiled(t)
	names, _ := filepath.Glob("../../policies/policyfile/testdata/broken/*.yaml")
	refused := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(filepath.Base(name), ".yaml")
		asJSON, err := yaml.YAMLToJSON(text)
		if err != nil || slices.Contains(relations, base) {
			continue
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			continue
		}
		if s.Validate(v) == nil {
			t.Errorf("%s: the schema takes it", base)
		}
		refused++
	}
	if refused < 10 {
		t.Errorf("only %d broken files were tried", refused)
	}
}

// tooMuch is what the schema takes and the reader does not, because of another
// value, of what defaults may say, or of the headers that are not a policy's.
const tooMuch = `
.upstreams.every.bulkhead: {}
.upstreams.every.circuit_breaker.max_open_for: "1s"
.upstreams.every.connections: {}
.upstreams.every.fallback: {}
.upstreams.every.fallback.stale: {}
.upstreams.every.idempotency.header: "host"
.upstreams.every.propagation.attempt_header: "host"
.upstreams.every.propagation.deadline_header: "host"
.upstreams.every.rate_limit: {}
.upstreams.every.timeout.attempt: "1s"
`

// values stand in turn for each value of every.yaml, which has every key. The
// schema must take what the reader takes.
var values = []string{
	`null`, `true`, `false`, `0`, `1`, `-1`, `1.5`, `0.5`, `2`, `99`, `404`, `600`, `16777216`, `""`, `"none"`, `"1s"`, `"0"`, `"5"`, `"1d"`,
	`"10/s"`, `"0/s"`, `"host"`, `"p95"`, `"GET"`, `"get"`, `"a b"`, `"X-Ok"`, `"/p"`, `"p"`, `"text/plain"`, `"open"`, `"all"`,
	`[]`, `[404]`, `[500,500]`, `["GET"]`, `["get"]`, `[""]`, `[{}]`, `{}`, `{"unknown":1}`, `{"a":"b"}`,
}

func TestEveryValue(t *testing.T) {
	s := compiled(t)
	text, err := os.ReadFile("every.yaml")
	if err != nil {
		t.Fatal(err)
	}
	whole := tree(t, text)
	only := map[string][]string{}
	each(whole, "", func(path string, set func(any)) {
		for _, value := range values {
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
			if err != nil {
				t.Fatal(err)
			}
			set(v)
			asJSON, err := json.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			_, wrong := policyfile.Parse("f.json", asJSON)
			refused := s.Validate(whole)
			switch {
			case wrong == nil && refused != nil:
				t.Errorf("%s: %s: the reader takes it, the schema does not: %v", path, value, refused)
			case wrong != nil && refused == nil:
				only[path] = append(only[path], value)
			}
		}
	})
	for _, m := range regexp.MustCompile(`"([a-z_]+)": \{`).FindAllSubmatch(policyfile.Schema, -1) {
		key := string(m[1])
		if !bytes.Contains(text, append(m[1], ':')) && !slices.Contains([]string{"policy", "properties", "items", "not", "body_file"}, key) {
			t.Errorf("every.yaml has no %s", key)
		}
	}
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(only)) {
		lines = append(lines, fmt.Sprintf("%s: %s", path, strings.Join(only[path], " ")))
	}
	if got := strings.Join(lines, "\n"); got != strings.TrimSpace(tooMuch) {
		t.Errorf("what only the schema takes is\n%s", got)
	}
}

// each visits every value below v, and puts it back afterwards.
func each(v any, path string, visit func(path string, set func(any))) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			old := v[key]
			visit(path+"."+key, func(x any) { v[key] = x })
			v[key] = old
			each(old, path+"."+key, visit)
		}
	case []any:
		for i, old := range v {
			visit(fmt.Sprintf("%s[%d]", path, i), func(x any) { v[i] = x })
			v[i] = old
			each(old, fmt.Sprintf("%s[%d]", path, i), visit)
		}
	}
}
