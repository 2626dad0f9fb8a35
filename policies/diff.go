package policies

import (
	"maps"
	"reflect"
	"slices"
)

// Change is one difference between two sets as they apply, defaults and
// built-in values included.
type Change struct {
	Upstream string `json:"upstream"`
	// Path of the value in the policy; empty where the upstream as a whole
	// came or went.
	Path string `json:"path,omitempty"`
	// Old and New are as people write them. Empty: there was, or is, none.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// String is one line, such as "payments bulkhead.max_concurrent: 64 -> 20".
func (c Change) String() string {
	switch {
	case c.Path == "" && c.Old == "":
		return c.Upstream + ": added"
	case c.Path == "":
		return c.Upstream + ": removed"
	}
	return c.Upstream + " " + c.Path + ": " + orOff(c.Old) + " -> " + orOff(c.New)
}

func orOff(s string) string {
	if s == "" {
		return "off"
	}
	return s
}

// Diff says what changed from old to s, by the names of the upstreams and in
// the order of a policy's fields, at most most of them; more tells that there
// are others. A nil snapshot has no upstreams.
func (s *Snapshot) Diff(old *Snapshot, most int) (changes []Change, more bool) {
	names := make(map[string]bool)
	for _, one := range []*Snapshot{old, s} {
		for _, u := range one.Upstreams() {
			names[u.Name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		changes = append(changes, changesOf(name, old.Named(name), s.Named(name), old, s)...)
		if len(changes) > most {
			return changes[:most:most], true
		}
	}
	return changes, false
}

func changesOf(name string, before, after *Upstream, old, now *Snapshot) (changes []Change) {
	switch {
	case before == nil:
		return []Change{{Upstream: name, New: "added"}}
	case after == nil:
		return []Change{{Upstream: name, Old: "removed"}}
	case reflect.DeepEqual(before.Policy, after.Policy):
		return nil
	}
	if !reflect.DeepEqual(before.Policy.Match, after.Policy.Match) {
		changes = append(changes, Change{name, "match", matchesText(before), matchesText(after)})
	}
	values := func(s *Snapshot, u *Upstream) (paths []string, of map[string]string) {
		of = make(map[string]string)
		for _, v := range s.ExplainNamed(name).Values {
			field, _ := fieldAt(reflect.ValueOf(u.Policy), v.Path)
			if field.Kind() != reflect.Pointer { // the values of a section that comes or goes tell of it
				paths, of[v.Path] = append(paths, v.Path), v.Value
			}
		}
		return paths, of
	}
	was, oldValues := values(old, before)
	is, newValues := values(now, after)
	for _, path := range slices.Concat(is, was) {
		if oldValues[path] != newValues[path] {
			changes = append(changes, Change{name, path, oldValues[path], newValues[path]})
			delete(oldValues, path)
			delete(newValues, path)
		}
	}
	return changes
}

func matchesText(u *Upstream) string {
	text, err := Policy{Match: u.Policy.Match}.MarshalJSON()
	if err != nil {
		return "?"
	}
	return string(text)
}
