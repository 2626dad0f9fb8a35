package fallbackcache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// names lists n field names.
func names(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("X-" + strconv.Itoa(i) + ",")
	}
	return b.String()
}

// RFC 9111, section 4.1.
func TestVary(t *testing.T) {
	type fields = []string
	for _, c := range []struct {
		name        string
		vary        fields
		asked, next fields
		want        bool
	}{
		{"same value", fields{"Vary: Accept-Language"}, fields{"Accept-Language: de"}, fields{"Accept-Language: de"}, true},
		{"another value", fields{"Vary: Accept-Language"}, fields{"Accept-Language: de"}, fields{"Accept-Language: en"}, false},
		{"absent later", fields{"Vary: Accept-Language"}, fields{"Accept-Language: de"}, nil, false},
		{"absent at first", fields{"Vary: Accept-Language"}, nil, fields{"Accept-Language: de"}, false},
		{"absent twice", fields{"Vary: Accept-Language"}, nil, nil, true},
		{"empty is not absent", fields{"Vary: Accept-Language"}, nil, fields{"Accept-Language:"}, false},
		{"a field it does not name", fields{"Vary: Accept-Language"}, nil, fields{"Accept: text/html"}, true},
		{"name in another case", fields{"Vary: ACCEPT-language"}, fields{"Accept-Language: de"}, fields{"Accept-Language: en"}, false},
		{"two names, one differs", fields{"Vary: Accept, Accept-Language"}, fields{"Accept: a", "Accept-Language: de"}, fields{"Accept: a", "Accept-Language: en"}, false},
		{"two lines, one differs", fields{"Vary: Accept", "Vary: Accept-Language"}, fields{"Accept: a", "Accept-Language: de"}, fields{"Accept: b", "Accept-Language: de"}, false},
		{"lines joined", fields{"Vary: Accept"}, fields{"Accept: a", "Accept: b"}, fields{"Accept: a, b"}, true},
		{"lines in another order", fields{"Vary: Accept"}, fields{"Accept: a", "Accept: b"}, fields{"Accept: b", "Accept: a"}, false},
		{"star", fields{"Vary: *"}, nil, nil, false},
		{"star among others", fields{"Vary: Accept, *"}, nil, nil, false},
		{"star on a second line", fields{"Vary: Accept", "Vary: *"}, nil, nil, false},
		{"what is no name", fields{"Vary: Accept Language"}, nil, nil, false},
		{"empty", fields{"Vary:"}, nil, fields{"Accept: a"}, true},
		{"as many names as there may be", fields{"Vary: " + names(maxVary)}, nil, nil, true},
		{"more", fields{"Vary: " + names(maxVary+1)}, nil, nil, false},
		{"more, with that of compression", fields{"Vary: " + names(maxVary), "Content-Encoding: gzip"}, nil, nil, false},
		{"compressed, and Vary forgotten", fields{"Content-Encoding: gzip"}, fields{"Accept-Encoding: gzip"}, nil, false},
		{"compressed, same wish", fields{"Content-Encoding: gzip"}, fields{"Accept-Encoding: gzip"}, fields{"Accept-Encoding: gzip"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := new(Cache)
			keep(t, cache, start, get(t, page, c.asked...), 200, "good", append(c.vary, "Cache-Control: max-age=60")...)
			if got := found(t, cache, start, time.Hour, get(t, page, c.next...)) != none; got != c.want {
				t.Errorf("answered: %v, want %v", got, c.want)
			}
		})
	}
}

func TestVariantsSideBySide(t *testing.T) {
	cache := new(Cache)
	for i, lang := range []string{"de", "en", "fr"} {
		keep(t, cache, start.Add(time.Duration(i)*time.Second), get(t, page, "Accept-Language: "+lang), 200, lang, "Vary: Accept-Language")
	}
	now := start.Add(3 * time.Second)
	keep(t, cache, now, get(t, page, "Accept-Language: en"), 200, "en again", "Vary: Accept-Language")
	for lang, want := range map[string]string{"de": "de", "en": "en again", "fr": "fr", "it": none} {
		if got := found(t, cache, now, time.Hour, get(t, page, "Accept-Language: "+lang)); got != want {
			t.Errorf("%s: %q, want %q", lang, got, want)
		}
	}
	// The origin forgets Vary on its default answer: it must not take the
	// place of those that have one.
	keep(t, cache, now.Add(time.Second), get(t, page), 200, "default")
	for lang, want := range map[string]string{"de": "de", "it": "default"} {
		if got := found(t, cache, now.Add(2*time.Second), time.Hour, get(t, page, "Accept-Language: "+lang)); got != want {
			t.Errorf("with a default answer stored, %s: %q, want %q", lang, got, want)
		}
	}
	// Once it answers this request without Vary, the older variant is over.
	keep(t, cache, now.Add(3*time.Second), get(t, page, "Accept-Language: de"), 200, "neutral")
	if got := found(t, cache, now.Add(4*time.Second), time.Hour, get(t, page, "Accept-Language: de")); got != "neutral" {
		t.Errorf("after a newer answer without Vary: %q", got)
	}
}

func TestVariantsAreBounded(t *testing.T) {
	cache := new(Cache)
	ask := func(i int) *http.Request { return get(t, page, "Accept: "+strconv.Itoa(i)) }
	for i := range 10 * maxVariants {
		keep(t, cache, start.Add(time.Duration(i)), ask(i), 200, "x", "Vary: Accept")
	}
	kept := 0
	for i := range 10 * maxVariants {
		if found(t, cache, start.Add(time.Minute), time.Hour, ask(i)) != none {
			kept++
			if i < 9*maxVariants {
				t.Errorf("variant %d is kept, a newer one is not", i)
			}
		}
	}
	if kept != maxVariants {
		t.Errorf("%d variants kept, want %d", kept, maxVariants)
	}
}

// A base that changes a field on which the answer depends.
func TestVaryOnWhatTheBaseSent(t *testing.T) {
	cache := new(Cache)
	req := get(t, page, "Accept-Language: de")
	sent := req.Clone(t.Context())
	sent.Header.Set("Accept-Language", "en")
	resp := response(t, sent, 200, "hello", "Vary: Accept-Language")
	if cache.Keep(req, resp, start) != resp {
		t.Error("an answer in English is being stored for one who asked for German")
	}
}

func FuzzVary(f *testing.F) {
	for _, seed := range []string{"", "*", "Accept", "accept, ACCEPT,,Accept-Language ", "a b", "Accept\x00", `"*"`, "Accept;*", "\t,\t"} {
		f.Add(seed, "x")
	}
	f.Fuzz(func(t *testing.T, line, second string) {
		names, ok := varyNames([]string{line, second})
		star := slices.ContainsFunc(strings.Split(line+","+second, ","), func(s string) bool { return strings.Trim(s, " \t") == "*" })
		if star && ok {
			t.Fatalf("Vary %q, %q has a star and was accepted as %q", line, second, names)
		}
		if !ok {
			return
		}
		for i, name := range names {
			if !isToken(name) || name != http.CanonicalHeaderKey(name) || i > 0 && names[i-1] >= name {
				t.Fatalf("Vary %q, %q was read as %q", line, second, names)
			}
		}
		again, ok := varyNames([]string{strings.Join(names, ",")})
		if !ok || !slices.Equal(again, names) {
			t.Fatalf("%q was read as %q the second time", names, again)
		}
		h := http.Header{}
		for _, name := range names {
			h.Set(name, second)
		}
		if values := selecting(names, h, nil); !fits(values, h) {
			t.Fatalf("a request does not select what was stored for it: %v", values)
		}
	})
}
