package policies

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseJSONPositions(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"places and advice": {`{
  "version": 1,
  "upstreams": {
    "a": {"retry": {"max_attempts": -3, "max_atempts": 3},
          "tîmeout": {}, "rate_limit": {"rate": 200}}
  }
}`, `p.json:4:37: upstreams.a.retry.max_attempts: -3 is below 1: write a number of attempts, 1 or more
p.json:4:41: upstreams.a.retry.max_atempts: unknown key: write max_attempts
p.json:5:11: upstreams.a["tîmeout"]: unknown key: write timeout
p.json:5:49: upstreams.a.rate_limit.rate: 200 has no unit: write 200/s or 200/m`},
		"twice":           {`{"version": 1, "version": 1}`, `p.json:1:16: version: the key is written twice, first in line 1: keep one of the two`},
		"null":            {`{"version": 1, "defaults": {"retry": null}}`, `p.json:1:38: defaults.retry: is empty: write {} for the section with its built-in values, or leave the key out`},
		"empty":           {" \n", `p.json:1:1: there is nothing in the file: write {"version": 1, "upstreams": {...}}`},
		"cut":             {`{"version": 1,`, `p.json:1:15: the JSON ends too early: close what is open`},
		"comma":           {"{\"version\": 1,\n}", `p.json:2:1: is not JSON: invalid character '}' looking for beginning of object key string: check the quotes, commas and brackets here`},
		"no comma":        {"{\"version\": 1\n\"upstreams\": {}}", `p.json:2:1: is not JSON: invalid character '"' after object key:value pair: check the quotes, commas and brackets here`},
		"comment":         {"{// x\n}", `p.json:1:2: is not JSON: invalid character '/' looking for beginning of object key string: check the quotes, commas and brackets here`},
		"more":            {`{"version": 1} {}`, `p.json:1:16: there is something after the end of the set: write one JSON object alone`},
		"number as a key": {`{1: 2}`, `p.json:1:2: is not JSON: invalid character '1' looking for beginning of object key string: check the quotes, commas and brackets here`},
		"list":            {`[]`, `p.json:1:1: is a list: write a section, such as version: 1 and upstreams: {payments: {}}`},
		"depth":           {strings.Repeat("[", 100_000), `p.json:1:34: the nesting is too deep: no policy goes deeper than 32 levels`},
		"not UTF-8":       {"{\"version\": 1,\n\"é\": \"\xff\"}", `p.json:2:7: the text is not UTF-8 here: save the file as UTF-8`},
		"exponent":        {`{"version": 1, "defaults": {"retry": {"max_attempts": 1e1}}}`, `p.json:1:55: defaults.retry.max_attempts: 1e1 is not a whole number: write a number of attempts, 1 or more`},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := ParseJSON([]byte(c.text), "p.json")
			if err == nil || set != nil {
				t.Fatalf("got %v, %v; want an error alone", set, err)
			}
			if err.Error() != c.want {
				t.Errorf("the errors are\n%s\nwant\n%s", err, c.want)
			}
		})
	}
}

// What a newer agent says to an older library is understood as far as it
// can be; what is wrong is refused, and changes nothing.
func TestUnmarshalIsLax(t *testing.T) {
	var set Set
	err := json.Unmarshal([]byte(`{"version":1,"epoch":7,"upstreams":{"a":{"shadow":{"after":"10ms"},"retry":{"max_attempts":2,"why":null},"bulkhead":null,"match":[{"host":"a","weight":3}]}}}`), &set)
	if err != nil {
		t.Fatal(err)
	}
	want := Set{Version: 1, Upstreams: map[string]Policy{"a": {Match: []Match{{Host: "a"}}, Retry: &Retry{MaxAttempts: 2}}}}
	if !reflect.DeepEqual(set, want) {
		t.Errorf("got %+v, want %+v", set, want)
	}
	for _, text := range []string{`{"version":1,"defaults":{"timeout":{"attempt":5}}}`, `{"version":"1"}`, `{"upstreams":[]}`, `7`} {
		if err := json.Unmarshal([]byte(text), &set); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
	if !reflect.DeepEqual(set, want) {
		t.Errorf("a refused text left %+v", set)
	}
	var policy Policy
	if err := json.Unmarshal([]byte(`{"timeout":{"attempt":"2s","total":"none"}}`), &policy); err != nil || *policy.Timeout != (Timeout{Attempt: 2 * time.Second, Total: None}) {
		t.Errorf("a policy alone gave %+v, %v", policy, err)
	}
}

// A set comes back from JSON as it went, strictly read or not, and with it
// the ETag.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawSet(t)
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var lax Set
		if err := json.Unmarshal(text, &lax); err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		if !reflect.DeepEqual(lax, *set) {
			t.Fatalf("%s\ncomes back as %+v\nwant %+v", text, lax, *set)
		}
		before, err := Compile(set)
		if err != nil {
			return // random sections may be at odds; the strict reader says so too
		}
		strict, err := ParseJSON(text, "x")
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		after := mustCompileRapid(t, strict)
		if before.ETag() != after.ETag() || !reflect.DeepEqual(before.Upstreams(), after.Upstreams()) {
			t.Fatalf("%s\nresolves to %+v\nand not %+v", text, after.Upstreams(), before.Upstreams())
		}
	})
}

func mustCompileRapid(t *rapid.T, set *Set) *Snapshot {
	snapshot, err := Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// drawSet fills a set at random, each value by its rule.
func drawSet(t *rapid.T) *Set {
	set := &Set{Version: 1}
	drawValue(t, reflect.ValueOf(&set.Defaults).Elem(), "")
	set.Defaults.Match = nil
	for i, n := 0, rapid.IntRange(0, 3).Draw(t, "upstreams"); i < n; i++ {
		var p Policy
		drawValue(t, reflect.ValueOf(&p).Elem(), "")
		for j := range p.Match {
			p.Match[j].Host = strings.Repeat("h", 1+i) + "." + strings.Repeat("x", 1+j)
		}
		if set.Upstreams == nil {
			set.Upstreams = map[string]Policy{}
		}
		set.Upstreams[string(rune('a'+i))+".1"] = p
	}
	return set
}

func drawValue(t *rapid.T, v reflect.Value, kind string) {
	if v.Kind() != reflect.Struct && rapid.Bool().Draw(t, kind+" unsaid") {
		return
	}
	r := rules[kind]
	number := func() int64 {
		if r.none && rapid.Bool().Draw(t, kind+" none") {
			return None
		}
		if r.p95 && rapid.Bool().Draw(t, kind+" p95") {
			return int64(P95)
		}
		return rapid.Int64Range(int64(r.min), int64(r.max)).Draw(t, kind)
	}
	switch v.Interface().(type) {
	case Rate:
		v.SetFloat(rapid.Float64Range(minRate, MaxLimit).Draw(t, kind))
		return
	case map[string]string:
		v.Set(reflect.ValueOf(map[string]string{"X-A": rapid.StringMatching(`[a-z<&>é"]*`).Draw(t, kind)}))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		drawValue(t, v.Elem(), kind)
	case reflect.Struct:
		for _, k := range keysOf[v.Type()] {
			drawValue(t, v.Field(k.index), strings.TrimPrefix(kind+"."+k.name, "."))
		}
	case reflect.Slice:
		n := rapid.IntRange(1, 2).Draw(t, kind)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			switch item := v.Index(i); item.Kind() {
			case reflect.Int:
				item.SetInt(int64(500 + i))
			case reflect.String:
				item.SetString([]string{"POST", "PURGE"}[i])
			default:
				drawValue(t, item, kind)
			}
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(number())
	case reflect.Float64:
		v.SetFloat(rapid.Float64Range(max(r.min, 0.001), max(r.max, 1)).Draw(t, kind))
	case reflect.String:
		example := map[string]string{"match.path": "/v1", "idempotency.header": "X-Key", "fallback.static.content_type": "text/plain; charset=utf-8", "fallback.static.body": "<a&b>\n\u2028é"}[kind]
		if r.oneOf != nil {
			example = rapid.SampledFrom(r.oneOf).Draw(t, kind)
		}
		v.SetString(example)
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"defaults":{"timeout":{"attempt":"10s","total":0}},"upstreams":{"a":{"match":[{"host":"*.a:80","path":"/v1/","methods":["GET"]}],"rate_limit":{"rate":"90/m"}}}}`,
		`{"version":1,"upstreams":{"a":{"fallback":{"static":{"headers":{"X":"y"}}},"retry":{"statuses":[]}}}}`,
		`[`, `{"version":1}x`, `{"a":[1 2]}`, "{\"version\":1,\n\"é\":\"\\ud800\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := ParseJSON(data, "f")
		if (set == nil) == (err == nil) {
			t.Fatalf("got %v and %v", set, err)
		}
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\x00\x1b") {
				t.Fatalf("a message that a terminal would obey: %q", err)
			}
			return
		}
		snapshot, err := Compile(set)
		if err != nil {
			t.Fatalf("read, but not compiled: %v", err)
		}
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var again Set
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatalf("%s does not come back: %v", text, err)
		}
		twice, err := Compile(&again)
		if err != nil || twice.ETag() != snapshot.ETag() {
			t.Fatalf("%s came back as another set (%v)", text, err)
		}
	})
}
