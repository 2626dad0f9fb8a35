package policies

import (
	"cmp"
	"net/url"
	"slices"
)

// index finds the most specific match of a request by hashing: the host, then
// its suffixes from the longest, then "*"; of each the entry with the
// request's port before the one without; of each the longest path; of each
// the named method before the rest.
type index struct {
	exact    map[string]*hostEntry
	suffixes map[string]*hostEntry // "" is "*"
}

// hostEntry is what is said of one host or suffix.
type hostEntry struct {
	anyPort pathTable
	ports   map[uint16]*pathTable
}

// pathTable finds the longest prefix. Few prefixes lie beside each other: to
// go through them costs less than to hash, above all where they have to come
// from memory. Of many only the lengths that some prefix has are tried, so the
// cost is bounded by those and not by the prefixes.
type pathTable struct {
	few     []prefix // longest first
	many    map[string]*prefix
	lengths []int // of the many, longest first, each once
}

// fewPrefixes is the most that are gone through.
const fewPrefixes = 4

// prefix is what is said of one path.
type prefix struct {
	path      string
	anyMethod target
	named     map[string]*target
}

// target is the upstream, and which of its matches led there. The zero target
// is none.
type target struct {
	upstream *Upstream
	match    int
}

func (x *index) add(u *Upstream) {
	if x.exact == nil {
		x.exact, x.suffixes = map[string]*hostEntry{}, map[string]*hostEntry{}
	}
	for i, match := range u.Policy.Match {
		host, _, _ := parseHost(match.Host)
		hosts := x.exact
		if host.wildcard {
			hosts = x.suffixes
		}
		entry := orNew(hosts, host.name)
		if host.port != 0 && entry.ports == nil {
			entry.ports = map[uint16]*pathTable{}
		}
		table := &entry.anyPort
		if host.port != 0 {
			table = orNew(entry.ports, host.port)
		}
		if table.many == nil {
			table.many = map[string]*prefix{}
		}
		path := trimPath(match.Path)
		at := orNew(table.many, path)
		at.path = path
		if len(match.Methods) == 0 {
			at.anyMethod = target{u, i}
			continue
		}
		if at.named == nil {
			at.named = map[string]*target{}
		}
		for _, method := range match.Methods {
			at.named[method] = &target{u, i}
		}
	}
}

func orNew[K comparable, V any](m map[K]*V, key K) *V {
	value := m[key]
	if value == nil {
		value = new(V)
		m[key] = value
	}
	return value
}

// close readies the index for find.
func (x *index) close() {
	for _, hosts := range []map[string]*hostEntry{x.exact, x.suffixes} {
		for _, entry := range hosts {
			entry.anyPort.close()
			for _, table := range entry.ports {
				table.close()
			}
		}
	}
}

func (t *pathTable) close() {
	if len(t.many) <= fewPrefixes {
		for _, p := range t.many {
			t.few = append(t.few, *p)
		}
		slices.SortFunc(t.few, func(a, b prefix) int { return cmp.Compare(len(b.path), len(a.path)) })
		t.many = nil
		return
	}
	for path := range t.many {
		t.lengths = append(t.lengths, len(path))
	}
	slices.SortFunc(t.lengths, func(a, b int) int { return cmp.Compare(b, a) })
	t.lengths = slices.Compact(t.lengths)
}

func (x *index) find(method string, u *url.URL) *target {
	if method == "" {
		method = "GET"
	}
	host, port, plain := hostOf(u)
	if plain { // nearly always
		return search(x, host, port, u.Path, method)
	}
	var buffer [maxHost + 1]byte
	return search(x, appendName(buffer[:0], host, u), port, u.Path, method)
}

func search[H string | []byte](x *index, host H, port uint16, path, method string) *target {
	if t := x.exact[string(host)].find(port, path, method); t != nil {
		return t
	}
	if len(x.suffixes) == 0 {
		return nil
	}
	for i := range len(host) {
		if host[i] == '.' {
			if t := x.suffixes[string(host[i+1:])].find(port, path, method); t != nil {
				return t
			}
		}
	}
	return x.suffixes[""].find(port, path, method)
}

func (e *hostEntry) find(port uint16, path, method string) *target {
	if e == nil {
		return nil
	}
	if len(e.ports) > 0 {
		if t := e.ports[port].find(path, method); t != nil {
			return t
		}
	}
	return e.anyPort.find(path, method)
}

func (t *pathTable) find(path, method string) *target {
	if t == nil {
		return nil
	}
	for i := range t.few {
		p := &t.few[i]
		if n := len(p.path); whole(path, n) && path[:n] == p.path {
			if t := p.find(method); t != nil {
				return t
			}
		}
	}
	for _, n := range t.lengths {
		if whole(path, n) {
			if t := t.many[path[:n]].find(method); t != nil {
				return t
			}
		}
	}
	return nil
}

// whole says whether the first n bytes of a path are whole segments of it.
func whole(path string, n int) bool {
	return n == 0 || n == len(path) || n < len(path) && path[n] == '/'
}

func (p *prefix) find(method string) *target {
	if p == nil {
		return nil
	}
	if t := p.named[method]; t != nil {
		return t
	}
	if p.anyMethod.upstream != nil {
		return &p.anyMethod
	}
	return nil
}
