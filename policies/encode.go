package policies

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MarshalJSON writes the set as people write it, in one canonical form:
// durations and rates as texts, [None] as "none", what is not said left out,
// keys in the order of the fields and names sorted. It does not check it.
func (s Set) MarshalJSON() ([]byte, error) {
	return marshal(reflect.ValueOf(&s).Elem())
}

// MarshalJSON writes a policy in the form of a set's. Of a resolved policy it
// leaves out what is none, so reading that back is no resolved policy.
func (p Policy) MarshalJSON() ([]byte, error) {
	return marshal(reflect.ValueOf(&p).Elem())
}

func marshal(v reflect.Value) ([]byte, error) {
	var b bytes.Buffer
	err := encode(&b, v)
	return b.Bytes(), err
}

func encode(b *bytes.Buffer, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		return encode(b, v.Elem())
	case reflect.Struct:
		return encodeStruct(b, v)
	case reflect.Map:
		return encodeMap(b, v)
	case reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := encode(b, v.Index(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	case reflect.Int, reflect.Bool:
		if text := textOf(v); text != "none" || v.Int() == 0 {
			b.WriteString(plainText(v))
			return nil
		}
	case reflect.Float64:
		if n := v.Float(); math.IsNaN(n) || math.IsInf(n, 0) {
			return fmt.Errorf("policies: %v cannot be written as JSON: use a number", n)
		} else if v.Type() != reflect.TypeFor[Rate]() {
			b.WriteString(plain(n))
			return nil
		}
	case reflect.String:
		return encodeText(b, v.String())
	}
	return encodeText(b, textOf(v))
}

// encodeText leaves the quoting of strings to encoding/json.
func encodeText(b *bytes.Buffer, s string) error {
	text, err := json.Marshal(s)
	b.Write(text)
	return err
}

func encodeStruct(b *bytes.Buffer, v reflect.Value) error {
	b.WriteByte('{')
	first := true
	for _, k := range keysOf[v.Type()] {
		field := v.Field(k.index)
		if k.name != "version" && k.name != "host" && isUnsaid(field) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteString(`"` + k.name + `":`)
		if err := encode(b, field); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func isUnsaid(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Map && v.Len() == 0
}

func encodeMap(b *bytes.Buffer, v reflect.Value) error {
	b.WriteByte('{')
	names := make([]string, 0, v.Len())
	for _, name := range v.MapKeys() {
		names = append(names, name.String())
	}
	for i, name := range slices.Sorted(slices.Values(names)) {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := encodeText(b, name); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := encode(b, v.MapIndex(reflect.ValueOf(name))); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

// textOf shows a value as a person would write it; "off" for a section that
// is not there.
func textOf(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return formatDuration(x)
	case Rate:
		return x.String()
	case map[string]string:
		parts := make([]string, 0, len(x))
		for _, name := range slices.Sorted(maps.Keys(x)) {
			parts = append(parts, name+": "+strconv.Quote(x[name]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	switch v.Kind() {
	case reflect.Pointer:
		return "off"
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = plainText(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Int:
		if v.Int() == None || v.Int() == 0 {
			return "none"
		}
	}
	return plainText(v)
}

func plainText(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Float64:
		return plain(v.Float())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	}
	return shown(v.String())
}

// shown makes one line of a text, such as a whole page, and cuts a long one.
// Two that differ are shown differently.
func shown(s string) string {
	const most = 200
	line := strings.ToValidUTF8(s[:min(len(s), most)], "")
	if !isClean(line, false) || strings.HasPrefix(line, `"`) {
		line = strconv.Quote(line)
	}
	if len(s) > most {
		sum := sha256.Sum256([]byte(s))
		line += fmt.Sprintf("... (%d bytes, sha256 %x)", len(s), sum[:4])
	}
	return line
}

// fieldAt follows a path of keys. ok is false where a section on the way is
// not there.
func fieldAt(v reflect.Value, path string) (field reflect.Value, ok bool) {
	for name := range strings.SplitSeq(path, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		k, known := findKey(v.Type(), name)
		if !known {
			return v, false
		}
		v = v.Field(k.index)
	}
	return v, true
}
