package policies

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// usualMethods are those that nearly all requests have.
var usualMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// matches looks for those that never win, and for those without which all
// would be as it is.
func (l *lint) matches() {
	for i, m := range l.p.Match {
		at := "match[" + strconv.Itoa(i) + "]"
		host, _, _ := parseHost(m.Host)
		if _, err := netip.ParseAddr(host.name); err == nil && host.wildcard {
			l.warn("match-never-wins", "there are no names below an address", "write "+quote(strings.TrimPrefix(m.Host, "*."))+" alone", at+".host")
			continue
		}
		if meant := mistypedMethod(m.Methods); meant != "" {
			l.warn("match-never-wins", "no usual method is called "+meant[:strings.IndexByte(meant, ' ')], "did you mean "+meant[strings.IndexByte(meant, ' ')+1:]+"?", at+".methods")
			continue
		}
		if len(m.Methods) == 0 && l.outnamed(host, m) {
			l.warn("match-never-wins", "for this host and path other matches name "+strings.Join(usualMethods, ", ")+", and a named method wins",
				"leave it out, or name fewer methods there", at+".host")
			continue
		}
		if other, ok := l.covered(host, m, i); ok {
			by := fmt.Sprintf("match[%d]", other)
			if place := l.snapshot.set.Origin[join("upstreams", l.name)+"."+by+".host"]; !place.IsZero() {
				by += " (" + place.String() + ")"
			}
			l.warn("match-adds-nothing", "without it "+by+" would bring the same requests here: each match is enough by itself",
				"leave one of the two out", at+".host")
		}
	}
}

// mistypedMethod gives a method and the usual one that is a slip of the pen
// away, with a space between them; "" where there is none.
func mistypedMethod(methods []string) string {
	for _, m := range methods {
		if slices.Contains(usualMethods, m) || m == "TRACE" || m == "CONNECT" {
			continue
		}
		for _, usual := range usualMethods {
			if swapped(m, usual) || len(m) > 3 && distance(m, usual, 2) < 2 {
				return m + " " + usual
			}
		}
	}
	return ""
}

// swapped reports whether b is a with two neighbours changed about.
func swapped(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) - 1 {
		if a[:i] == b[:i] && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:] {
			return true
		}
	}
	return false
}

// outnamed reports whether each usual method of a match's host and path is
// named by another match.
func (l *lint) outnamed(host hostPattern, m Match) bool {
	entry := l.tables(host)[0]
	table := &entry.anyPort
	if host.port != 0 {
		table = entry.ports[host.port]
	}
	own := table.over(trimPath(m.Path))[0]
	for _, usual := range usualMethods {
		if own.named[usual] == nil {
			return false
		}
	}
	return true
}

// tables are those of the host and of what lies around it, nearest first.
func (l *lint) tables(host hostPattern) (all []*hostEntry) {
	x := &l.snapshot.index
	add := func(e *hostEntry) {
		if e != nil {
			all = append(all, e)
		}
	}
	if host.wildcard {
		add(x.suffixes[host.name])
	} else {
		add(x.exact[host.name])
	}
	for name := host.name; name != ""; {
		_, name, _ = strings.Cut(name, ".")
		add(x.suffixes[name])
	}
	return all
}

// covered gives another match of the upstream that would win each request that
// match i wins, were it not there.
func (l *lint) covered(host hostPattern, m Match, i int) (other int, ok bool) {
	if len(l.p.Match) == 1 {
		return 0, false
	}
	tables := l.tables(host)
	// The requests to try: with each port, path and method that is named here
	// or around it, and one that nobody names, which is the zero value.
	ports, paths, methods := map[uint16]bool{host.port: true}, map[string]bool{}, map[string]bool{}
	own := trimPath(m.Path)
	paths[own] = true
	add := func(t *pathTable) {
		for _, p := range t.all() {
			below, above := strings.HasPrefix(p.path, own+"/"), p.path == own || strings.HasPrefix(own, p.path+"/")
			if below {
				paths[p.path] = true
			}
			for method := range p.named {
				if (below || above) && len(m.Methods) == 0 {
					methods[method] = true
				}
			}
		}
	}
	for _, e := range tables {
		add(&e.anyPort)
		for port, t := range e.ports {
			if host.port == 0 || host.port == port {
				ports[port] = true
				add(t)
			}
		}
	}
	for _, method := range m.Methods {
		methods[method] = true
	}
	if len(m.Methods) == 0 {
		methods[""] = true
	}
	other = len(l.p.Match)
	for port := range ports {
		for path := range paths {
			for method := range methods {
				first, next := firstTwo(tables, port, path, method)
				switch {
				case first.upstream.Name != l.name || first.match != i: // not won anyway
				case next == nil || next.upstream.Name != l.name:
					return 0, false
				default:
					other = min(other, next.match)
				}
			}
		}
	}
	return other, other < len(l.p.Match)
}

// firstTwo gives who wins a request, and who would win it after that.
func firstTwo(tables []*hostEntry, port uint16, path, method string) (first, next *target) {
	for _, e := range tables {
		for _, table := range []*pathTable{e.ports[port], &e.anyPort} {
			for _, p := range table.over(path) {
				for _, t := range []*target{p.named[method], &p.anyMethod} {
					switch {
					case t == nil || t.upstream == nil:
					case first == nil:
						first = t
					default:
						return first, t
					}
				}
			}
		}
	}
	return first, nil
}

// all gives the prefixes of a table.
func (t *pathTable) all() (all []*prefix) {
	if t == nil {
		return nil
	}
	for i := range t.few {
		all = append(all, &t.few[i])
	}
	for _, p := range t.many {
		all = append(all, p)
	}
	return all
}

// over gives the prefixes of a table that a request for path has, the longest
// first.
func (t *pathTable) over(path string) (all []*prefix) {
	if t == nil {
		return nil
	}
	for i := range t.few {
		if p := &t.few[i]; whole(path, len(p.path)) && path[:len(p.path)] == p.path {
			all = append(all, p)
		}
	}
	for _, n := range t.lengths {
		if whole(path, n) && t.many[path[:n]] != nil {
			all = append(all, t.many[path[:n]])
		}
	}
	return all
}
