package policies

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Decode reads a set from one tree, or from several laid over each other in
// order: maps are merged key by key, lists and single values replaced whole.
// It is strict: an unknown key, a key written twice, a value of the wrong
// type or out of range, and everything that [Compile] refuses, come back as
// [Errors], all at once. Set.Origin says where each value was written.
func Decode(files ...*Node) (*Set, error) {
	if len(files) == 0 {
		return nil, Errors{{Problem: "no file was read", Want: "give one"}}
	}
	var errs Errors
	var names []string
	merged := files[0]
	for i, file := range files {
		names = append(names, file.Position.File)
		if i > 0 && file.Kind == Null {
			continue // a drop-in with everything commented out
		}
		// Each file is read by itself too, so that nothing wrong in one hides
		// behind what a later one says.
		if i > 0 {
			merged = overlay(merged, file)
		}
		if len(files) > 1 {
			own := decoder{strict: true}
			own.value(file, reflect.ValueOf(new(Set)).Elem(), "", "")
			errs = append(errs, own.errs...)
		}
	}
	d := decoder{strict: true, origin: map[string]Position{"": files[0].Position}}
	set := new(Set)
	d.value(merged, reflect.ValueOf(set).Elem(), "", "")
	set.Origin = d.origin
	errs = append(errs, d.errs...)
	errs = append(errs, withFindings(errs, check(set))...)
	if err := errs.err(names...); err != nil {
		return nil, err
	}
	return set, nil
}

// withFindings gives what check found, without what the decoder has said
// already and without the mere consequences of other errors: a value missing
// from a section because what was written there is wrong.
func withFindings(decoding Errors, findings []finding) (errs Errors) {
	said := make(map[string]bool, len(decoding))
	wrong := make(map[string]bool) // paths of errors, and of all sections around them
	for _, e := range decoding {
		if e.Path == "" {
			return nil // the whole file is wrong
		}
		said[e.Path] = true
		markAround(wrong, e.Path)
	}
	for _, f := range findings {
		if f.dependsOn == nil {
			markAround(wrong, f.Path)
		}
	}
	for _, f := range findings {
		if !said[f.Path] && !slices.ContainsFunc(f.dependsOn, func(section string) bool { return wrong[section] }) {
			errs = append(errs, f.Error)
		}
	}
	return errs
}

func markAround(wrong map[string]bool, path string) {
	wrong[path] = true
	for i := range len(path) {
		if path[i] == '.' || path[i] == '[' {
			wrong[path[:i]] = true
		}
	}
}

// decoder turns nodes into values by the json tags of their types. What it
// cannot take it reports, and leaves unsaid.
type decoder struct {
	strict bool                // unknown, repeated and empty keys are errors
	origin map[string]Position // nil: not asked for
	errs   Errors
}

func (d *decoder) fail(n *Node, path, problem, want string) {
	d.errs = append(d.errs, &Error{Path: path, Position: n.Position, Problem: problem, Want: want})
}

// value reads n into v. path is v's place in the set, kind its path in a
// policy, by which its rule is known.
func (d *decoder) value(n *Node, v reflect.Value, path, kind string) {
	if d.origin != nil && path != "" && n.Kind != Map {
		d.origin[path] = n.Position
	}
	if n.Kind == Null {
		if d.strict {
			d.empty(n, v, path, kind)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if n.Kind != Map {
			d.fail(n, path, "is "+n.Kind.String(), "write a section, such as "+exampleSection(path, v.Type().Elem()))
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.fields(n, v.Elem(), path, kind)
	case reflect.Struct:
		if n.Kind != Map {
			d.fail(n, path, "is "+n.Kind.String(), "write a section, such as "+exampleSection(path, v.Type()))
			return
		}
		d.fields(n, v, path, kind)
	case reflect.Map:
		d.entries(n, v, path, kind)
	case reflect.Slice:
		d.items(n, v, path, kind)
	default:
		d.scalar(n, v, path, kind)
	}
}

func (d *decoder) empty(n *Node, v reflect.Value, path, kind string) {
	want := rules[kind].want()
	switch v.Kind() {
	case reflect.Pointer:
		want = "write {} for the section with its built-in values, or leave the key out"
	case reflect.Struct, reflect.Map:
		want = "write something in it, or leave the key out"
	}
	if path == "" {
		d.fail(n, path, "there is nothing in the file", `write "version: 1" and the upstreams`)
		return
	}
	d.fail(n, path, "is empty", want)
}

// exampleSection shows the first keys of a section.
func exampleSection(path string, t reflect.Type) string {
	name := path[strings.LastIndexByte(path, '.')+1:]
	switch t {
	case reflect.TypeFor[Set]():
		return "version: 1 and upstreams: {payments: {}}"
	case reflect.TypeFor[Policy]():
		return "timeout: {attempt: 2s}"
	case reflect.TypeFor[Match]():
		return "{host: payments.internal}"
	}
	for _, k := range keysOf[t] {
		if k.name != "disabled" {
			return name + ": {" + k.name + ": ...}"
		}
	}
	return name + ": {}"
}

// join is the path of a key below path. A name with a dot in it is quoted:
// upstreams["a.b"].retry.
func join(path, name string) string {
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r > 0x7f || !isLowerAlphanumeric(byte(r)|0x20))
	}):
		return path + "[" + quote(name) + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

func (d *decoder) fields(n *Node, v reflect.Value, path, kind string) {
	seen := make(map[string]Position, len(n.Entries))
	for _, entry := range n.Entries {
		at := join(path, entry.Key)
		field, known := findKey(v.Type(), entry.Key)
		if d.strict && !d.once(seen, entry, at) {
			continue
		}
		if !known {
			switch {
			case entry.Value.problem != "":
				d.fail(entry.Value, at, entry.Value.problem, entry.Value.want)
			case d.strict:
				d.fail(&Node{Position: entry.KeyPosition}, at, "unknown key", adviseKey(v.Type(), entry.Key))
			}
			continue
		}
		if d.origin != nil {
			d.origin[at] = entry.KeyPosition
		}
		below := entry.Key
		if kind != "" {
			below = kind + "." + entry.Key
		}
		if v.Type() == reflect.TypeFor[Set]() && field.typ == reflect.TypeFor[Policy]() {
			below = ""
		}
		d.value(entry.Value, v.Field(field.index), at, below)
	}
}

// once reports whether a key is there for the first time.
func (d *decoder) once(seen map[string]Position, entry Entry, path string) bool {
	first, again := seen[entry.Key]
	if again {
		d.fail(&Node{Position: entry.KeyPosition}, path, fmt.Sprintf("the key is written twice, first in line %d", first.Line), "keep one of the two")
		return false
	}
	seen[entry.Key] = entry.KeyPosition
	return true
}

func (d *decoder) entries(n *Node, v reflect.Value, path, kind string) {
	if n.Kind != Map {
		want := rules[kind].want()
		if kind == "upstreams" {
			want = "write the upstreams by name, such as payments: {match: [{host: payments.internal}]}"
		}
		d.fail(n, path, "is "+n.Kind.String(), want)
		return
	}
	if kind == "upstreams" {
		kind = ""
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.Entries)))
	seen := make(map[string]Position, len(n.Entries))
	for _, entry := range n.Entries {
		at := join(path, entry.Key)
		if d.strict && !d.once(seen, entry, at) {
			continue
		}
		if d.origin != nil {
			d.origin[at] = entry.KeyPosition
		}
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(entry.Value, element, at, kind)
		v.SetMapIndex(reflect.ValueOf(entry.Key), element)
	}
}

func (d *decoder) items(n *Node, v reflect.Value, path, kind string) {
	if n.Kind != List {
		d.fail(n, path, "is "+n.Kind.String(), rules[kind].want())
		return
	}
	if d.strict && len(n.Items) == 0 && !rules[kind].empty {
		d.fail(n, path, "is an empty list", rules[kind].want()+", or leave the key out")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items)))
	for i, item := range n.Items {
		d.value(item, v.Index(i), path+"["+strconv.Itoa(i)+"]", kind)
	}
}

// scalar reads a single value. Whatever is wrong with it is reported, and v
// stays zero.
func (d *decoder) scalar(n *Node, v reflect.Value, path, kind string) {
	problem, want := scalarInto(n, v, rules[kind])
	if problem == "" {
		return
	}
	v.SetZero()
	if want == "" {
		want = rules[kind].want()
	}
	d.fail(n, path, problem, want)
}
