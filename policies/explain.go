package policies

import (
	"net/url"
	"reflect"
	"strconv"
)

// Explanation says which upstream a request has, why, and where each value
// of its policy was written.
type Explanation struct {
	// Upstream is empty where no policy names the request; the values are
	// those of [Unnamed] then.
	Upstream string `json:"upstream,omitempty"`
	// Match is the one that won, nil where there is none, with its index in
	// the upstream's list and its place in a file.
	Match         *Match   `json:"match,omitempty"`
	MatchIndex    int      `json:"match_index"`
	MatchPosition Position `json:"match_position,omitzero"`
	// Values in the order of the fields of Policy. A section that is off is
	// there as one value, "off".
	Values []Value `json:"values"`
}

// Value is one resolved value of a policy.
type Value struct {
	Path  string `json:"path"`  // such as "retry.max_attempts"
	Value string `json:"value"` // as it would be written
	// Source is the layer; Position is where it says so, and zero for
	// built-in values and for sets that come from no file.
	Source   Source   `json:"source"`
	Position Position `json:"position,omitzero"`
}

// From says in words where the value comes from: "policies.yaml:12:15",
// "defaults (policies.yaml:3:11)", or the layer alone.
func (v Value) From() string {
	switch {
	case v.Position.IsZero():
		return string(v.Source)
	case v.Source == FromDefaults:
		return "defaults (" + v.Position.String() + ")"
	}
	return v.Position.String()
}

// Explain says how [Snapshot.Lookup] comes to its answer.
func (s *Snapshot) Explain(method string, u *url.URL) Explanation {
	upstream, match := s.find(method, u)
	if upstream == nil {
		return s.ExplainNamed("")
	}
	e := s.ExplainNamed(upstream.Name)
	winner := cloneMatches(upstream.Policy.Match)[match]
	e.Match, e.MatchIndex = &winner, match
	e.MatchPosition = s.set.Origin[join("upstreams", upstream.Name)+".match["+strconv.Itoa(match)+"].host"]
	return e
}

// ExplainNamed is Explain for a request whose caller names the upstream. For
// a name that is not in the set it explains [Unnamed].
func (s *Snapshot) ExplainNamed(name string) Explanation {
	e := Explanation{}
	written, defaults := &Policy{}, &Policy{}
	var origin map[string]Position
	resolved := Unnamed()
	if upstream := s.Named(name); upstream != nil {
		e.Upstream, origin = name, s.set.Origin
		own := s.set.Upstreams[name]
		written, defaults = &own, &s.set.Defaults
		resolved = &upstream.Policy
	}
	merge(written, defaults, func(path string, _ reflect.Value, from Source) {
		e.Values = append(e.Values, Value{Path: path, Source: from, Position: originOf(origin, e.Upstream, path, from)})
	})
	e.Values = valuesOf(e.Values, reflect.ValueOf(resolved).Elem())
	return e
}

// originOf finds where a value was written: by its own path, or for a section
// that is off by its word disabled.
func originOf(origin map[string]Position, upstream, path string, from Source) Position {
	prefix := ""
	switch from {
	case FromUpstream:
		prefix = join("upstreams", upstream)
	case FromDefaults:
		prefix = "defaults"
	default:
		return Position{}
	}
	if p, ok := origin[prefix+"."+path+".disabled"]; ok {
		return p
	}
	return origin[prefix+"."+path]
}

// valuesOf fills in what each value came to in the resolved policy.
func valuesOf(values []Value, policy reflect.Value) []Value {
	kept := values[:0]
	for _, v := range values {
		field, ok := fieldAt(policy, v.Path)
		if !ok {
			continue // inside a section that turned out to be off
		}
		v.Value = textOf(field)
		kept = append(kept, v)
	}
	return kept
}
