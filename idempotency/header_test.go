package idempotency

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestSetMints(t *testing.T) {
	for _, c := range []struct {
		field string
		bare  bool
		name  string // in the map
	}{
		{"", false, "Idempotency-Key"},
		{"", true, "Idempotency-Key"},
		{"x-request-key", false, "X-Request-Key"},
	} {
		h := http.Header{"Accept": {"a"}}
		key, minted := Set(h, c.field, c.bare)
		want := `"` + key + `"`
		if c.bare {
			want = key
		}
		if !minted || !uuid7.MatchString(key) || !reflect.DeepEqual(h, http.Header{"Accept": {"a"}, c.name: {want}}) {
			t.Errorf("Set(%q, bare %v) = %q, %v and left %v", c.field, c.bare, key, minted, h)
		}
		if again, minted := Set(h, c.field, c.bare); again != key || minted {
			t.Errorf("a second Set gave %q, %v, want %q, false", again, minted, key)
		}
	}
}

func TestSetKeepsTheCallers(t *testing.T) {
	for _, c := range []struct {
		name string
		h    http.Header
		want string
	}{
		{"quoted", http.Header{"Idempotency-Key": {`"order-1"`}}, "order-1"},
		{"bare", http.Header{"Idempotency-Key": {"order-1"}}, "order-1"},
		{"in lower case", http.Header{"idempotency-key": {`"order-1"`}}, "order-1"},
		{"with parameters", http.Header{"Idempotency-Key": {`"order-1"; a=1`}}, "order-1"},
		{"with escapes", http.Header{"Idempotency-Key": {`"a\"b\\c"`}}, `a"b\c`},
		{"with a false escape", http.Header{"Idempotency-Key": {`"a\bc"`}}, `"a\bc"`},
		{"escape at the end", http.Header{"Idempotency-Key": {`"a\`}}, `"a\`},
		{"quotes never closed", http.Header{"Idempotency-Key": {`"a`}}, `"a`},
		{"quotes closed too early", http.Header{"Idempotency-Key": {`"a"b`}}, `"a"b`},
		{"not ASCII", http.Header{"Idempotency-Key": {`"é"`}}, `"é"`},
		{"two", http.Header{"Idempotency-Key": {"a", "b"}}, "a"},
		{"empty: none is wanted", http.Header{"Idempotency-Key": {""}}, ""},
		{"empty quotes", http.Header{"Idempotency-Key": {`""`}}, ""},
		{"no values: none is wanted", http.Header{"Idempotency-Key": {}}, ""},
		{"nil: none is wanted", http.Header{"Idempotency-Key": nil}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.h.Clone()
			key, minted := Set(c.h, "", false)
			if key != c.want || minted {
				t.Errorf("Set = %q, %v, want %q, false", key, minted, c.want)
			}
			if !reflect.DeepEqual(c.h, before) {
				t.Errorf("the header was changed from %v to %v", before, c.h)
			}
		})
	}
}

func TestReplayed(t *testing.T) {
	for _, c := range []struct {
		field, value string
		want         bool
	}{
		{"Idempotency-Replayed", "true", true},
		{"Idempotency-Replayed", "True", true},
		{"Idempotency-Replayed", "?1", true},
		{"Idempotency-Replayed", "1", true},
		{"Idempotency-Replayed", "false", false},
		{"Idempotency-Replayed", "?0", false},
		{"Idempotency-Replayed", "", false},
		{"Idempotent-Replayed", "true", true}, // Stripe
		{"Idempotency-Key", "true", false},
	} {
		resp := &http.Response{Header: http.Header{}}
		resp.Header.Set(c.field, c.value)
		if got := Replayed(resp); got != c.want {
			t.Errorf("%s: %s: replayed %v, want %v", c.field, c.value, got, c.want)
		}
	}
	if Replayed(nil) || Replayed(&http.Response{}) {
		t.Error("no response, or one without fields, counts as replayed")
	}
}

func FuzzSetKeepsTheCallers(f *testing.F) {
	for _, seed := range []string{`"a"`, "a", `"a\"`, `"a\\";x`, "\x00", `"" `, `"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		h := http.Header{Header: {value}}
		key, minted := Set(h, "", false)
		if minted || len(h) != 1 || len(h[Header]) != 1 || h[Header][0] != value {
			t.Fatalf("the caller's %q became %q", value, h)
		}
		if len(key) > len(value) {
			t.Fatalf("the key %q is longer than what was sent, %q", key, value)
		}
		// What is quoted by the rules comes back whole.
		if strings.Trim(key, " ") == key && isPrintable(key) {
			quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
			if got := unquote(quoted); got != key {
				t.Fatalf("%q was quoted as %q and read as %q", key, quoted, got)
			}
		}
	})
}

func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}
