package idempotency

import (
	"bytes"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// Whatever is sent: a key is printable, within its length, and reads the same
// when it is quoted again.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{`"a"`, "a", `"a\"`, `"a\\";x`, "\x00", `"" `, `"`, strings.Repeat("a", 256), `"ü"`, "a,b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, err := read(http.Header{Header: {value}}, "idempotency-key", 255)
		if err != nil {
			if key != "" {
				t.Fatalf("%q gave a key %q and an error", value, key)
			}
			return
		}
		if key == "" || len(key) > 255 || !isPrintable(key) {
			t.Fatalf("%q gave the key %q", value, key)
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, err := read(http.Header{Header: {quoted}}, Header, 255); again != key || err != nil {
			t.Fatalf("%q was quoted as %q and read as %q, %v", key, quoted, again, err)
		}
	})
}

// What others wrote into a store is refused or read; what we wrote comes back.
func FuzzAnswer(f *testing.F) {
	good, err := (&Answer{Status: 201, Header: http.Header{"A": {"\xff"}}, Body: []byte("b")}).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{answerForm, 0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b Answer
		if a.UnmarshalBinary(data) != nil {
			return
		}
		again, err := a.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.UnmarshalBinary(again); err != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v came back as %+v, %v", a, b, err)
		}
	})
}

// No bit of a stored answer can flip unseen.
func TestADamagedAnswer(t *testing.T) {
	good, err := (&Answer{Status: 201, Body: []byte("b")}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if new(Answer).UnmarshalBinary(bad) == nil {
			t.Errorf("bit %d flipped, and the answer is read", i)
		}
	}
}

// Parts do not run into each other.
func TestIdentify(t *testing.T) {
	if identify("a", "bc") == identify("ab", "c") || identify("", "a") == identify("a", "") {
		t.Error("two pairs of scope and key have one ID")
	}
}
