package policyfile

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/resagent/resagent/policies"
)

// Whatever is in a file, Parse gives a set that compiles, or errors that have
// a place and fit on a terminal.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "testdata/design.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("version: 1\nupstreams:\n  a:\n    fallback:\n      static:\n        body: |\n          x\n          y\n        headers: {X: 'it''s', Y: \"\\u00e9\"}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := Parse("f.yaml", data)
		if (set == nil) == (err == nil) {
			t.Fatalf("got %v and %v", set, err)
		}
		if err != nil {
			all, ok := errors.AsType[policies.Errors](err)
			if !ok || len(all) == 0 {
				t.Fatalf("the error is %T %v", err, err)
			}
			for _, e := range all {
				if e.Position.Line < 1 || e.Position.Column < 1 || e.Problem == "" || e.Want == "" {
					t.Fatalf("an error without place, problem or advice: %+v", e)
				}
			}
			if strings.ContainsAny(err.Error(), "\r\x00\x1b\x7f") {
				t.Fatalf("a message that a terminal would obey: %q", err)
			}
			return
		}
		snapshot, err := policies.Compile(set)
		if err != nil {
			t.Fatalf("read, but not compiled: %v", err)
		}
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("f.json", text)
		if err != nil {
			t.Fatalf("%s does not come back: %v", text, err)
		}
		if twice, err := policies.Compile(again); err != nil || twice.ETag() != snapshot.ETag() {
			t.Fatalf("%s came back as another set (%v)", text, err)
		}
	})
}
