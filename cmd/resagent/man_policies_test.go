package main

import (
	"bytes"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/policies/policyfile"
)

// resagent-policies(5) has each key that the decoder takes, once, and no other.
func TestPoliciesManualHasEveryKey(t *testing.T) {
	var page bytes.Buffer
	if err := policiesManual(&page); err != nil {
		t.Fatal(err)
	}
	_, keys, _ := strings.Cut(page.String(), "\n.SH KEYS\n")
	keys, _, found := strings.Cut(keys, "\n.SH EXAMPLES\n")
	if !found {
		t.Fatal("the page has no section KEYS before EXAMPLES")
	}
	var written []string
	for _, m := range regexp.MustCompile(`(?m)^\.(?:SS (\S+)|BR (\S+) .*)\n(.*)$`).FindAllStringSubmatch(keys, -1) {
		written = append(written, m[1]+m[2])
		if text := m[3]; len(text) < 10 && !strings.HasPrefix(text, ".TP") {
			t.Errorf("%s%s is said to be %q, which helps nobody", m[1], m[2], text)
		}
	}
	known := []string{"version", "defaults", "upstreams"}
	known = append(known, keysBelow(reflect.TypeFor[policies.Policy](), "")...)
	known = append(known, "fallback.static.body_file") // for which the reader puts body
	for _, key := range known {
		// on_agent_loss is a heading and a key.
		if n := occurrences(written, key); n == 0 || n > 1 && key != "on_agent_loss" {
			t.Errorf("the key %s is there %d times", key, n)
		}
	}
	for _, key := range written {
		if !slices.Contains(known, key) {
			t.Errorf("%s is no key", key)
		}
	}
	if len(known) < 60 {
		t.Errorf("found %d keys in the types; the walk is broken", len(known))
	}
}

// keysBelow gives the keys of a section as files name them.
func keysBelow(t reflect.Type, path string) (keys []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		at := strings.TrimPrefix(path+"."+name, ".")
		keys = append(append(keys, at), keysBelow(t.Field(i).Type, at)...)
	}
	return keys
}

// The examples of the page are what they seem to be.
func TestPoliciesManualExamples(t *testing.T) {
	for _, e := range policyExamples {
		set, err := policyfile.Parse("example.yaml", []byte(e.file))
		if err != nil {
			t.Errorf("%s\n%s%v", e.says, e.file, err)
			continue
		}
		snapshot, err := policies.Compile(set)
		if err != nil {
			t.Errorf("%s\n%s%v", e.says, e.file, err)
		}
		for _, w := range snapshot.Warnings() {
			t.Errorf("%s\n%s%v", e.says, e.file, w)
		}
	}
}

func occurrences(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}
