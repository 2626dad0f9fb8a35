package fallbackcache

import (
	"strings"
	"testing"
	"time"
)

func TestDirectives(t *testing.T) {
	for _, c := range []struct {
		line string
		want []directive
	}{
		{"", nil},
		{" , ,\t", nil},
		{"no-store", []directive{{name: "no-store"}}},
		{"Max-Age = 60 ,public", []directive{{name: "max-age", value: "60", hasValue: true, spaced: true}, {name: "public"}}},
		{`a="b, c", d`, []directive{{name: "a", value: "b, c", hasValue: true, quoted: true}, {name: "d"}}},
		{`a="b\", c", d`, []directive{{name: "a", value: `b", c`, hasValue: true, quoted: true}, {name: "d"}}},
		{`a="b" c, d`, []directive{{name: "a", value: "b c", hasValue: true}, {name: "d"}}},
		{`a="b, no-store`, []directive{{name: "a", value: `"b`, hasValue: true}, {name: "no-store"}}},
		{"no-store;x=1, d", []directive{{name: "no-store"}, {name: "d"}}},
		{"a=, b", []directive{{name: "a", hasValue: true}, {name: "b"}}},
		{"=x, b", []directive{{name: "b"}}},
	} {
		var got []directive
		for d := range directives([]string{c.line}) {
			got = append(got, d)
		}
		if len(got) != len(c.want) {
			t.Errorf("%q: %+v, want %+v", c.line, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%q, member %d: %+v, want %+v", c.line, i, got[i], c.want[i])
			}
		}
	}
}

func FuzzCacheControl(f *testing.F) {
	for _, seed := range []string{
		"", "no-store", "max-age=60, must-revalidate", `no-cache="a, b", x`, `x="no-store`, `x="\`, "max-age=99999999999999999999",
		"stale-if-error=0", `private="x"no-store`, "=,=,=", "no-store;", "max-age=1, max-age=2", "s-maxage=-1", "\x00,\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		h := header(t)
		h["Cache-Control"] = []string{line}
		members := 0
		for d := range directives(h["Cache-Control"]) {
			members++
			if d.name == "" || d.name != strings.ToLower(d.name) || !isToken(d.name) {
				t.Fatalf("%q has a directive named %q", line, d.name)
			}
		}
		if members > strings.Count(line, ",")+1 {
			t.Fatalf("%q has %d directives and fewer commas", line, members)
		}
		// Outside of quotes a prohibition is always seen.
		unquoted, _, _ := strings.Cut(line, `"`)
		sees := readResponse(h)
		for member := range strings.SplitSeq(unquoted, ",") {
			if strings.EqualFold(strings.Trim(member, " \t"), "no-store") && !sees.noStore {
				t.Fatalf("%q: no-store was not seen", line)
			}
		}
		// What is prohibited stays so, whatever is written behind it.
		h["Cache-Control"] = []string{line, "no-store"}
		if !readResponse(h).noStore {
			t.Fatalf("%q hides a no-store on the next line", line)
		}
		h["Cache-Control"] = []string{"no-store, " + line}
		if !readResponse(h).noStore {
			t.Fatalf("%q hides a no-store before it", line)
		}
		v := judge(always, h, start)
		if v.keep {
			t.Fatalf("%q makes no-store storable", line)
		}
		h["Cache-Control"] = []string{line}
		v = judge(always, h, start)
		if v.fresh.lifetime < 0 || v.fresh.lifetime > farAway {
			t.Fatalf("%q gives a lifetime of %v", line, v.fresh.lifetime)
		}
		for _, age := range []time.Duration{0, time.Second, time.Hour, 2 * farAway} {
			// A wider window never takes anything away, and a request's
			// directives never give more.
			asked := readRequest(h)
			narrow, wide := v.fresh.permits(age, time.Minute, asked), v.fresh.permits(age, time.Hour, asked)
			if narrow && !wide || wide && !v.fresh.permits(age, time.Hour, requestControl{}) {
				t.Fatalf("%q at age %v: within a minute %v, within an hour %v", line, age, narrow, wide)
			}
		}
	})
}

func FuzzIfNoneMatch(f *testing.F) {
	for _, seed := range []string{"*", `"a"`, `W/"a", "b"`, `"a`, "a", `""`, `W/`, `,,"a"`} {
		f.Add(seed, `"a"`)
	}
	f.Fuzz(func(t *testing.T, line, tag string) {
		if matches(line, tag) && (tag == "" || !strings.Contains(line, strings.TrimPrefix(tag, "W/"))) {
			t.Fatalf("%q matches %q, and does not contain it", line, tag)
		}
	})
}
