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
	anyPort *pathTable
	ports   map[uint16]*pathTable
}

// pathTable finds the longest prefix. Only the lengths that some prefix has
// are tried, so the cost is bounded by those and not by the prefixes.
type pathTable struct {
	prefixes map[string]*methodTable
	lengths  []int // of the prefixes, longest first, each once
}

type methodTable struct {
	anyMethod *target
	named     map[string]*target
}

// target is the upstream, and which of its matches led there.
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
		var table *pathTable
		if host.port != 0 {
			table = orNew(entry.ports, host.port)
		} else if table = entry.anyPort; table == nil {
			table = &pathTable{}
			entry.anyPort = table
		}
		if table.prefixes == nil {
			table.prefixes = map[string]*methodTable{}
		}
		methods := orNew(table.prefixes, trimPath(match.Path))
		if len(match.Methods) == 0 {
			methods.anyMethod = &target{u, i}
			continue
		}
		if methods.named == nil {
			methods.named = map[string]*target{}
		}
		for _, method := range match.Methods {
			methods.named[method] = &target{u, i}
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
	if t == nil {
		return
	}
	for prefix := range t.prefixes {
		t.lengths = append(t.lengths, len(prefix))
	}
	slices.SortFunc(t.lengths, func(a, b int) int { return cmp.Compare(b, a) })
	t.lengths = slices.Compact(t.lengths)
}

func (x *index) find(method string, u *url.URL) *target {
	if method == "" {
		method = "GET"
	}
	var buffer [maxHost + 1]byte
	host, port := appendHost(buffer[:0], u)
	if t := x.exact[string(host)].find(port, u.Path, method); t != nil {
		return t
	}
	if len(x.suffixes) == 0 {
		return nil
	}
	for i, c := range host {
		if c == '.' {
			if t := x.suffixes[string(host[i+1:])].find(port, u.Path, method); t != nil {
				return t
			}
		}
	}
	return x.suffixes[""].find(port, u.Path, method)
}

func (e *hostEntry) find(port uint16, path, method string) *target {
	if e == nil {
		return nil
	}
	if t := e.ports[port].find(path, method); t != nil {
		return t
	}
	return e.anyPort.find(path, method)
}

func (t *pathTable) find(path, method string) *target {
	if t == nil {
		return nil
	}
	for _, n := range t.lengths {
		if n > len(path) || n < len(path) && n > 0 && path[n] != '/' {
			continue
		}
		methods := t.prefixes[path[:n]]
		if methods == nil {
			continue
		}
		if t := methods.named[method]; t != nil {
			return t
		}
		if methods.anyMethod != nil {
			return methods.anyMethod
		}
	}
	return nil
}
