package policies

import (
	"reflect"
	"slices"
	"strings"
)

// key is one field of a policy's struct as files name it.
type key struct {
	name  string
	index int
	typ   reflect.Type
}

// keysOf holds the keys of every struct in a Set, in the order of its fields.
var keysOf = structKeys(reflect.TypeFor[Set](), map[reflect.Type][]key{})

func structKeys(t reflect.Type, all map[reflect.Type][]key) map[reflect.Type][]key {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return structKeys(t.Elem(), all)
	case reflect.Struct:
	default:
		return all
	}
	if _, done := all[t]; done {
		return all
	}
	all[t] = []key{}
	for i := range t.NumField() {
		field := t.Field(i)
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" {
			all[t] = append(all[t], key{name, i, field.Type})
			structKeys(field.Type, all)
		}
	}
	return all
}

// findKey gives the key of struct type t named name.
func findKey(t reflect.Type, name string) (key, bool) {
	for _, k := range keysOf[t] {
		if k.name == name {
			return k, true
		}
	}
	return key{}, false
}

// adviseKey says what to write instead of a key that struct type t does not
// have: the section it belongs in, else a known one spelt nearly so, else
// the list of what there is.
func adviseKey(t reflect.Type, name string) string {
	names := make([]string, 0, len(keysOf[t]))
	for _, k := range keysOf[t] {
		names = append(names, k.name)
	}
	if section := sectionWith(reflect.TypeFor[Policy](), name); section != "" && t == reflect.TypeFor[Policy]() {
		return "write it inside " + section
	}
	if _, known := findKey(reflect.TypeFor[Policy](), name); known && t == reflect.TypeFor[Set]() {
		return "write it inside defaults, or inside an upstream"
	} else if known {
		return "write it one level up, beside the sections of the upstream"
	}
	if near := nearest(name, names); near != "" {
		return "write " + near
	}
	return "the keys here are " + strings.Join(names, ", ")
}

// nearest gives the known name that differs least from name, if it differs
// so little that a slip of the pen is likely.
func nearest(name string, known []string) string {
	best, least := "", 1+max(1, len(name)/4)
	for _, candidate := range known {
		if d := distance(fold(name), fold(candidate), least); d < least {
			best, least = candidate, d
		}
	}
	if best != "" {
		return best
	}
	// "attempts" for "max_attempts", or "hostname" for "host": one name alone
	// has a part in common.
	short := func(s string) bool { return len(s) < 4 }
	fits := slices.DeleteFunc(slices.Clone(known), func(candidate string) bool {
		return short(name) || short(candidate) ||
			!strings.Contains(fold(candidate), fold(name)) && !strings.Contains(fold(name), fold(candidate))
	})
	if len(fits) == 1 {
		return fits[0]
	}
	return ""
}

// fold makes maxAttempts, max-attempts and max_attempts one.
func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance is the number of letters to change, add or take away to make b of
// a (Levenshtein 1965), or most where the lengths alone say that it is more.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// sectionWith gives the one section below t that has the key, such as
// "timeout" for attempt; "" where none or several have it.
func sectionWith(t reflect.Type, name string) (section string) {
	for _, k := range keysOf[t] {
		inner := k.typ
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct {
			continue
		}
		found := ""
		if _, ok := findKey(inner, name); ok {
			found = k.name
		} else if deeper := sectionWith(inner, name); deeper != "" {
			found = k.name + "." + deeper
		}
		if found != "" && section != "" {
			return ""
		}
		section += found
	}
	return section
}
