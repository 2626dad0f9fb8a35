//go:build linux

package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Every line that is read as a hint says the same as JSON, and the lines that
// SendHint writes are read as hints.
func FuzzHint(f *testing.F) {
	for _, s := range []string{
		`{"type":"wake","indexes":[7]}`, `{"type":"free","indexes":[0]}`, `{"type":"want","indexes":[1023]}`,
		`{"type":"dirty","indexes":[12345]}`, `{"type":"want","indexes":[07]}`, `{"type":"want","indexes":[-1]}`,
		`{"type":"want","indexes":[1,2]}`, `{"type":"want","indexes":[]}`, `{"type":"bye","indexes":[1]}`,
		`{"type":"want","indexes":[1]} `, `{"type":"wake","indexes":[7]`, "{\"type\":\"want\\u0000\",\"indexes\":[1]}",
	} {
		f.Add([]byte(s + "\n"))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		hint := parseHint(line)
		if hint == nil {
			return
		}
		var m Message
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%q was read as %+v, as JSON: %v", line, hint, err)
		}
		if !reflect.DeepEqual(*hint, m) {
			t.Fatalf("%q was read as %+v, as JSON it is %+v", line, *hint, m)
		}
	})
}

func TestHintsAreReadWithoutJSON(t *testing.T) {
	near, far := pair(t)
	out, in := NewConn(near, nil, MaxLine, 1<<20), NewConn(far, nil, MaxLine, 0)
	for _, kind := range []Type{Want, Free, Wake, Dirty} {
		for _, cell := range []int{0, 9, 10, 999} {
			if err := out.SendHint(kind, cell); err != nil {
				t.Fatal(err)
			}
			m, err := in.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if want := (&Message{Type: kind, Indexes: []int{cell}}); !reflect.DeepEqual(m, want) {
				t.Errorf("%s of %d was read as %+v", kind, cell, m)
			}
		}
	}
	line := []byte(`{"type":"free","indexes":[12]}` + "\n")
	if parseHint(line) == nil {
		t.Errorf("%q is not read as a hint", line)
	}
	for _, other := range []string{"", "\n", `{"type":"policies"}`, strings.Repeat(" ", 9), `{"type":"wake"}`} {
		if m := parseHint([]byte(other)); m != nil {
			t.Errorf("%q was read as %+v", other, m)
		}
	}
	if n := testing.AllocsPerRun(100, func() { parseHint(line) }); n > 2 {
		t.Errorf("reading a hint allocates %v times, want the message and its index", n)
	}
}
