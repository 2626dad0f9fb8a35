package idempotency_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/resagent/resagent/idempotency"
)

// Whatever a client sends as its key: 400, a problem that says what is wrong,
// no run, and nothing in the store.
func TestMalformedKeys(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []string
		says   string
	}{
		{"of 0 bytes", []string{""}, "is empty"},
		{"of blanks", []string{" \t "}, "is empty"},
		{"of 0 bytes, quoted", []string{`""`}, "is empty"},
		{"of 256 bytes", []string{strings.Repeat("a", 256)}, "256 bytes"},
		{"of 256 bytes, quoted", []string{`"` + strings.Repeat("a", 256) + `"`}, "256 bytes"},
		{"of 10,000 bytes", []string{strings.Repeat("a", 10_000)}, "10000 bytes"},
		{"of 10,000 bytes of parameters", []string{`"a";` + strings.Repeat("a", 10_000)}, "10004 bytes"},
		{"NUL", []string{"a\x00b"}, "0x00 at 1"},
		{"a tab within", []string{"\"k\t1\""}, "no Structured Field string"},
		{"a line end", []string{"a\r\nEvil: 1"}, "0x0d at 1"},
		{"DEL", []string{"a\x7f"}, "0x7f at 1"},
		{"not ASCII", []string{"kü"}, "0xc3 at 1"},
		{"not UTF-8", []string{"\xff"}, "0xff at 0"},
		{"two fields", []string{`"k-1"`, `"k-2"`}, "2 times"},
		{"two equal fields", []string{`"k-1"`, `"k-1"`}, "2 times"},
		{"a list", []string{`k-1, k-2`}, `',' at 3`},
		{"a list of strings", []string{`"k-1", "k-2"`}, "no Structured Field string"},
		{"quotes never closed", []string{`"k-1`}, "no Structured Field string"},
		{"quotes never opened", []string{`k-1"`}, `'"' at 3`},
		{"a quote within", []string{`"k"1"`}, "no Structured Field string"},
		{"single quotes around two words", []string{`'k 1'`}, `' ' at 2`},
		{"an escape at the end", []string{`"k-1\"`}, "no Structured Field string"},
		{"an escape of another character", []string{`"k\n"`}, "no Structured Field string"},
		{"a parameter of a bare key", []string{`k;v=1`}, `';' at 1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := new(idempotency.Memory)
			h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the handler ran") }), idempotency.Options{Store: store})
			r := httptest.NewRequest("POST", "/", nil)
			r.Header[idempotency.Header] = c.values
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var p struct{ Title, Detail string }
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 400 || !strings.Contains(p.Detail, c.says) {
				t.Errorf("%d, %v, %s; want 400 that says %q", w.Code, err, w.Body, c.says)
			}
			if n := store.Len(); n != 0 {
				t.Errorf("%d keys are in the store", n)
			}
		})
	}
}

// Keys that look strange and are good: they are what they say, quoted or not.
func TestStrangeKeys(t *testing.T) {
	for value, key := range map[string]string{
		`"a b, c; d"`:                         "a b, c; d",
		`"say \"hi\" \\ \\"`:                  `say "hi" \ \`,
		`  "k-1"  `:                           "k-1",
		`"k-1";a;b="c d"`:                     "k-1",
		"'k-1'":                               "'k-1'",
		"a=b&c/d+e%20":                        "a=b&c/d+e%20",
		strings.Repeat("a", 255):              strings.Repeat("a", 255),
		`"` + strings.Repeat(`\"`, 255) + `"`: strings.Repeat(`"`, 255),
	} {
		got := ""
		h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = idempotency.FromContext(r.Context()).Key }), idempotency.Options{})
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set(idempotency.Header, value)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got != key {
			t.Errorf("%s was read as %q, want %q", value, got, key)
		}
	}
}

// Bodies that cannot be had whole: the handler does not run, and the key is
// not taken.
func TestBadBodies(t *testing.T) {
	const limit = 1000
	for _, c := range []struct {
		name   string
		body   io.Reader
		length int64
		status int
	}{
		{"at the bound", strings.NewReader(strings.Repeat("a", limit)), limit, 200},
		{"over the bound, announced", strings.NewReader(strings.Repeat("a", limit+1)), limit + 1, 413},
		{"over the bound, chunked", strings.NewReader(strings.Repeat("a", limit+1)), -1, 413},
		{"endless", endless{}, -1, 413},
		{"over the bound of a handler around", http.MaxBytesReader(nil, io.NopCloser(endless{}), limit/2), -1, 413},
		{"cut off", io.MultiReader(strings.NewReader("a"), broken{}), 10, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, runs := new(idempotency.Memory), 0
			h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { runs++ }), idempotency.Options{Store: store, MaxBody: limit})
			r := httptest.NewRequest("POST", "/", c.body)
			r.ContentLength = c.length
			r.Header.Set(idempotency.Header, "k-1")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if ran := c.status == 200; w.Code != c.status || (runs == 1) != ran || (store.Len() == 1) != ran {
				t.Errorf("%d after %d runs, with %d keys; want %d", w.Code, runs, store.Len(), c.status)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the client has gone") }

// An answer beyond the bound reaches the first client whole, streamed; the
// second is told what became of the request.
func TestALargeAnswer(t *testing.T) {
	const size = 3 << 20
	s := serve(t, idempotency.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		for range size / 1024 {
			if _, err := w.Write(make([]byte, 1024)); err != nil {
				t.Errorf("writing: %v", err)
				return
			}
		}
	})
	if a := s.send("POST", "/", "", key); a.status != 201 || len(a.body) != size {
		t.Errorf("the first client got %d with %d bytes", a.status, len(a.body))
	}
	a := s.send("POST", "/", "", key)
	var p struct {
		Original int `json:"original_status"`
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != 410 || p.Original != 201 || s.runs.Load() != 1 {
		t.Errorf("the second got %d, %s after %d runs, %v; want 410 that tells of 201 after one", a.status, a.body, s.runs.Load(), err)
	}
}
