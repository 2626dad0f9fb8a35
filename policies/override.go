package policies

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// With gives a copy of the set in which values, by their paths in a policy
// such as "bulkhead.max_concurrent", are laid over what is written for the
// upstream. They are texts as in a file: "20", "2s", "200/s", "[429, 503]".
// from stands in Origin as the place of these values. The set itself is not
// changed. An error is an [Errors], as of a file; what only [Compile] finds is
// left to it.
func (s *Set) With(upstream string, values map[string]string, from string) (*Set, error) {
	refuse := func(path, problem, want string) (*Set, error) {
		return nil, Errors{{Path: path, Problem: problem, Want: want}}
	}
	written, known := s.Upstreams[upstream]
	if !known {
		want := "name one that the policies have"
		if near := nearest(upstream, slices.Sorted(maps.Keys(s.Upstreams))); near != "" {
			want = "did you mean " + strconv.Quote(near) + "?"
		}
		return refuse("", "no upstream is called "+quote(upstream), want)
	}
	if len(values) == 0 {
		return refuse("", "there are no values", "write some, such as bulkhead.max_concurrent=20")
	}
	over := &Node{Kind: Map}
	for _, path := range slices.Sorted(maps.Keys(values)) {
		if section, _, _ := strings.Cut(path, "."); section == "match" {
			return refuse(path, "what an upstream matches cannot be laid over", "change it in the files")
		}
		if problem := over.put(path, scalarNode(values[path])); problem != "" {
			return refuse(path, problem, "write each value once, such as bulkhead.max_concurrent=20")
		}
	}
	text, err := Set{Version: s.Version, Defaults: s.Defaults, Upstreams: map[string]Policy{upstream: written}}.MarshalJSON()
	if err != nil {
		return nil, err
	}
	base, err := JSONTree(text, "")
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	root := &Node{Kind: Map, Entries: []Entry{
		{Key: "version", Value: &Node{Kind: Number, Text: strconv.Itoa(s.Version)}},
		{Key: "upstreams", Value: &Node{Kind: Map, Entries: []Entry{{Key: upstream, Value: over}}}}}}
	changed, err := Decode(base, root)
	if err != nil {
		if errs, ok := err.(Errors); ok {
			for _, e := range errs {
				e.Position = Position{} // no place in any file
			}
			return nil, errs.err()
		}
		return nil, err
	}
	laid := &Set{Version: s.Version, Defaults: s.Defaults, Upstreams: maps.Clone(s.Upstreams), Origin: maps.Clone(s.Origin)}
	laid.Upstreams[upstream] = changed.Upstreams[upstream]
	if laid.Origin == nil {
		laid.Origin = make(map[string]Position)
	}
	for path := range values {
		laid.Origin[join("upstreams", upstream)+"."+path] = Position{File: from}
	}
	return laid, nil
}

// put lays a value at a path of keys below n.
func (n *Node) put(path string, value *Node) (problem string) {
	name, rest, deeper := strings.Cut(path, ".")
	i := slices.IndexFunc(n.Entries, func(e Entry) bool { return e.Key == name })
	if !deeper {
		if i >= 0 {
			return "is there as a section and as a value"
		}
		n.Entries = append(n.Entries, Entry{Key: name, Value: value})
		return ""
	}
	if i < 0 {
		i = len(n.Entries)
		n.Entries = append(n.Entries, Entry{Key: name, Value: &Node{Kind: Map}})
	}
	if n.Entries[i].Value.Kind != Map {
		return "is there as a section and as a value"
	}
	return n.Entries[i].Value.put(rest, value)
}

// scalarNode reads a value as a file's one line would be read.
func scalarNode(text string) *Node {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		list := &Node{Kind: List}
		for item := range strings.SplitSeq(strings.TrimSuffix(inner, "]"), ",") {
			if item = strings.TrimSpace(item); item != "" {
				list.Items = append(list.Items, scalarNode(item))
			}
		}
		return list
	}
	kind := String
	if text == "true" || text == "false" {
		kind = Bool
	} else if _, err := strconv.ParseFloat(text, 64); err == nil {
		kind = Number
	}
	return &Node{Kind: kind, Text: text}
}
