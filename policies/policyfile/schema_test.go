package policyfile

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

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
