package policyfile

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// The schema has each key of the types, and the types have each key of the
// schema.
func TestSchemaInStepWithTypes(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatalf("schema.json is not JSON: %v", err)
	}
	written := keysOfSchema(schema, schema, "")
	typed := keysOfType(reflect.TypeFor[policies.Set](), "")
	// The one thing a type cannot say: defaults match nothing.
	typed = slices.DeleteFunc(typed, func(path string) bool { return strings.HasPrefix(path, "defaults.match") })
	for _, path := range typed {
		if !slices.Contains(written, path) {
			t.Errorf("%s is a key of the types and not of the schema", path)
		}
	}
	// And what the reader puts a text in place of, before the types see it.
	const bodyFile = "fallback.static.body_file"
	typed = append(typed, "defaults."+bodyFile, "upstreams.*."+bodyFile)
	for _, path := range written {
		if !slices.Contains(typed, path) {
			t.Errorf("%s is a key of the schema and not of the types", path)
		}
	}
	if len(typed) < 100 {
		t.Errorf("found %d keys in the types; the walk is broken", len(typed))
	}
}

// keysOfType gives the paths of all json tags; "*" stands for a map's key.
func keysOfType(t reflect.Type, path string) (paths []string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return keysOfType(t.Elem(), path)
	case reflect.Map:
		if t.Elem().Kind() == reflect.Struct {
			return keysOfType(t.Elem(), path+".*")
		}
	case reflect.Struct:
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			below := strings.TrimPrefix(path+"."+name, ".")
			paths = append(append(paths, below), keysOfType(t.Field(i).Type, below)...)
		}
	}
	return paths
}

func keysOfSchema(root, node map[string]any, path string) (paths []string) {
	if ref, ok := node["$ref"].(string); ok {
		definition := root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")]
		return keysOfSchema(root, definition.(map[string]any), path)
	}
	if items, ok := node["items"].(map[string]any); ok {
		return keysOfSchema(root, items, path)
	}
	if values, ok := node["additionalProperties"].(map[string]any); ok && node["properties"] == nil {
		return keysOfSchema(root, values, path+".*")
	}
	properties, _ := node["properties"].(map[string]any)
	for name, below := range properties {
		at := strings.TrimPrefix(path+"."+name, ".")
		paths = append(append(paths, at), keysOfSchema(root, below.(map[string]any), at)...)
	}
	return paths
}

// What the schema says to be built in is built in, and it says so of all that
// is: editors and resagent-policies(5) show it.
func TestSchemaSaysWhatIsBuiltIn(t *testing.T) {
	set, err := Parse("all.yaml", []byte(`version: 1
upstreams:
  all:
    hedge: {}
    bulkhead: {max_concurrent: 1}
    rate_limit: {rate: 1/s}
    idempotency: {}
    fallback: {stale: {max_stale: 1h}, static: {}}
    connections: {max_per_host: 1}
    propagation: {attempt_header: X-Attempt}
`))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := policies.Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`Built-in: (.*)\.$`)
	derived := map[string]string{"bulkhead.max_waiting": "twice max_concurrent", "rate_limit.burst": "one second of rate, rounded up"}
	checked := 0
	for _, v := range snapshot.ExplainNamed("all").Values {
		if v.Source != policies.FromBuiltIn {
			continue
		}
		description := descriptionOf(schema, v.Path)
		got := ""
		if m := said.FindStringSubmatch(description); m != nil {
			got = m[1]
		}
		want, ok := derived[v.Path]
		if !ok {
			want = v.Value
		}
		a, errA := time.ParseDuration(got)
		b, errB := time.ParseDuration(want)
		switch {
		case got == want || errA == nil && errB == nil && a == b:
			checked++
		case got == "" && (want == "" || want == "none" || want == "{}"):
		default:
			t.Errorf("%s: the schema says built-in %q, and it is %q: %s", v.Path, got, want, description)
		}
	}
	if checked < 30 {
		t.Errorf("%d values were compared; the walk is broken", checked)
	}
}

// descriptionOf gives what the schema says of a key of a policy.
func descriptionOf(schema map[string]any, path string) string {
	definitions := schema["$defs"].(map[string]any)
	follow := func(node map[string]any) map[string]any {
		if ref, ok := node["$ref"].(string); ok {
			return definitions[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		return node
	}
	node := definitions["policy"].(map[string]any)
	for name := range strings.SplitSeq(path, ".") {
		node, _ = follow(node)["properties"].(map[string]any)[name].(map[string]any)
	}
	if said, ok := node["description"].(string); ok {
		return said
	}
	said, _ := follow(node)["description"].(string)
	return said
}

// Each object of the schema refuses keys it does not know, as the reader does.
func TestSchemaIsStrict(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	objects := 0
	var walk func(path string, node any)
	walk = func(path string, node any) {
		object, ok := node.(map[string]any)
		if !ok {
			return
		}
		if object["properties"] != nil && object["type"] == "object" {
			objects++
			if object["additionalProperties"] != false {
				t.Errorf("%s takes unknown keys", path)
			}
		}
		for name, below := range object {
			walk(path+"/"+name, below)
		}
	}
	walk("", schema)
	if objects < 10 {
		t.Errorf("found %d objects; the walk is broken", objects)
	}
}
