package policies

import (
	"cmp"
	"reflect"
	"slices"
)

// Warning is something in a set that is allowed and hardly meant.
type Warning struct {
	// Rule names the kind, such as "retry-without-budget".
	Rule string `json:"rule"`
	// Path and Position as in [Error].
	Path     string   `json:"path"`
	Position Position `json:"position,omitzero"`
	// Problem says what will happen, Want what would be right.
	Problem string `json:"problem"`
	Want    string `json:"want"`
}

// String gives one line, as compilers write it: place, what, what to write
// instead, and the rule.
func (w Warning) String() string {
	s := "warning: " + w.Path + ": " + w.Problem + ": " + w.Want + " [" + w.Rule + "]"
	if !w.Position.IsZero() {
		s = w.Position.String() + ": " + s
	}
	return s
}

// Warnings gives what is allowed in the set and hardly meant, in the order of
// the files. What the defaults say is told once, and only where an upstream has
// it so. A value that has no effect is told where the upstream itself writes
// it: the defaults may be for others.
func (s *Snapshot) Warnings() []Warning {
	if s == nil || s.set == nil {
		return nil
	}
	l := lint{snapshot: s}
	l.defaults()
	for _, upstream := range s.upstreams {
		l.upstream(upstream)
	}
	slices.SortStableFunc(l.found, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Position.File, b.Position.File),
			cmp.Compare(a.Position.Line, b.Position.Line), cmp.Compare(a.Position.Column, b.Position.Column),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Rule, b.Rule))
	})
	return slices.Compact(l.found) // of the defaults, each upstream says the same
}

// lint looks at one upstream after the other.
type lint struct {
	snapshot *Snapshot
	found    []Warning

	name string
	p    *Policy           // resolved
	from map[string]Source // of the values in p, and of sections that are off
}

func (l *lint) upstream(u *Upstream) {
	l.name, l.p, l.from = u.Name, &u.Policy, map[string]Source{}
	own := l.snapshot.set.Upstreams[u.Name]
	merge(&own, &l.snapshot.set.Defaults, func(path string, _ reflect.Value, from Source) { l.from[path] = from })
	l.timeouts()
	l.retries()
	l.limits()
	l.breaker()
	l.fallbacks()
	l.withoutEffect()
	l.matches()
}

// warn places a warning at the first of the paths that the upstream says, else
// at the first that the defaults say, else at the upstream. Paths are those of
// a policy.
func (l *lint) warn(rule, problem, want string, paths ...string) {
	w := Warning{Rule: rule, Problem: problem, Want: want, Path: join("upstreams", l.name)}
	origin := l.snapshot.set.Origin
	w.Position = origin[w.Path]
	for _, layer := range []string{w.Path, "defaults"} {
		for _, path := range paths {
			if at, written := origin[layer+"."+path]; written {
				w.Path, w.Position = layer+"."+path, at
				l.found = append(l.found, w)
				return
			}
		}
	}
	l.found = append(l.found, w)
}

// says reports whether the upstream itself writes a value that counts.
func (l *lint) says(path string) bool { return l.from[path] == FromUpstream }

// written reports whether the files say a value, wherever.
func (l *lint) written(path string) bool { return l.from[path] != "" && l.from[path] != FromBuiltIn }

// methods reports whether a request of one of these methods can come here by
// its URL. An upstream without matches is called by its name, with any.
func (l *lint) methods(any ...string) bool {
	for _, m := range l.p.Match {
		if len(m.Methods) == 0 || slices.ContainsFunc(m.Methods, func(s string) bool { return slices.Contains(any, s) }) {
			return true
		}
	}
	return len(l.p.Match) == 0
}

func (l *lint) defaults() {
	set := l.snapshot.set
	if len(set.Upstreams) > 0 || reflect.ValueOf(set.Defaults).IsZero() {
		return
	}
	l.found = append(l.found, Warning{
		Rule: "defaults-without-upstreams", Path: "defaults", Position: set.Origin["defaults"],
		Problem: "nothing inherits them: they are for the upstreams of the file, and there are none",
		Want:    `name the hosts in upstreams, or all of them with any: {match: [{host: "*"}]}`,
	})
}
