package policies

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
)

// Snapshot is a set that was found good, resolved and indexed. It is
// immutable and safe for concurrent use. A nil or zero Snapshot has no
// upstreams.
type Snapshot struct {
	set       *Set
	etag      string
	upstreams []*Upstream
	named     map[string]*Upstream
	index     index
}

// Upstream is one upstream of a [Snapshot]. It is not to be changed.
type Upstream struct {
	// Name, and Index in the order of the names.
	Name  string
	Index int
	// Policy is resolved: zero means none, a nil section is off, the scopes
	// and OnAgentLoss are filled in, and nothing is left to inherit.
	Policy Policy
}

// Compile checks a set whole and makes it ready for use. If anything is wrong
// with it the error is an [Errors] that names everything that is. The set is
// kept, and must not be changed afterwards.
func Compile(set *Set) (*Snapshot, error) {
	if set == nil {
		return nil, Errors{{Problem: "there is no set", Want: "give one with Version: 1"}}
	}
	if err := withFindings(nil, check(set)).err(); err != nil {
		return nil, err
	}
	text, err := set.MarshalJSON()
	if err != nil {
		return nil, err
	}
	if len(text) > MaxFileSize {
		return nil, Errors{{Problem: fmt.Sprintf("the set is larger than %d MiB as JSON, too large to be carried to other processes", MaxFileSize>>20), Want: "say less, or say it in defaults"}}
	}
	sum := sha256.Sum256(text)
	s := &Snapshot{
		set:       set,
		etag:      hex.EncodeToString(sum[:16]),
		upstreams: make([]*Upstream, 0, len(set.Upstreams)),
		named:     make(map[string]*Upstream, len(set.Upstreams)),
	}
	for i, name := range slices.Sorted(maps.Keys(set.Upstreams)) {
		written := set.Upstreams[name]
		upstream := &Upstream{Name: name, Index: i, Policy: merge(&written, &set.Defaults, nil)}
		complete(&upstream.Policy)
		if i > 0 {
			share(&upstream.Policy, &s.upstreams[i-1].Policy)
		}
		s.upstreams = append(s.upstreams, upstream)
		s.named[name] = upstream
		s.index.add(upstream)
	}
	s.index.close()
	return s, nil
}

// share gives p the sections of q that are equal to its own. Most upstreams
// have the defaults in most sections; those that are one in memory stay in the
// processor's cache when thousands of upstreams are called in turn.
func share(p, q *Policy) {
	mine, other := reflect.ValueOf(p).Elem(), reflect.ValueOf(q).Elem()
	for i := range mine.NumField() {
		if mine.Field(i).Kind() == reflect.Pointer && reflect.DeepEqual(mine.Field(i).Interface(), other.Field(i).Interface()) {
			mine.Field(i).Set(other.Field(i))
		}
	}
}

// Lookup gives the upstream of a request, or nil where no policy names it.
// An empty method is GET. Hosts are compared without case, final dot and
// IPv6 spelling; a URL without a port has that of its scheme; paths are
// compared unescaped, as in u.Path. The most specific [Match] wins; where a
// host is named but not this path or method of it, less specific hosts are
// tried.
//
// The cost does not depend on the number of upstreams, and there is no
// allocation but for IPv6 zones.
func (s *Snapshot) Lookup(method string, u *url.URL) *Upstream {
	upstream, _ := s.find(method, u)
	return upstream
}

// find is Lookup, with the index of the match that won.
func (s *Snapshot) find(method string, u *url.URL) (*Upstream, int) {
	if s == nil || u == nil || u.Host == "" {
		return nil, 0
	}
	if t := s.index.find(method, u); t != nil {
		return t.upstream, t.match
	}
	return nil, 0
}

// Named gives the upstream of that name, or nil.
func (s *Snapshot) Named(name string) *Upstream {
	if s == nil {
		return nil
	}
	return s.named[name]
}

// NoUpstream says in words that no upstream is called so, and which name may be
// meant.
func (s *Snapshot) NoUpstream(name string) string {
	said := "no upstream is called " + quote(name)
	if s == nil {
		return said
	}
	if near := nearest(name, slices.Sorted(maps.Keys(s.named))); near != "" {
		said += ", did you mean " + strconv.Quote(near) + "?"
	}
	return said
}

// Len is the number of upstreams.
func (s *Snapshot) Len() int {
	if s == nil {
		return 0
	}
	return len(s.upstreams)
}

// Upstreams gives all of them in the order of their names, which is that of
// Index. The slice is the caller's.
func (s *Snapshot) Upstreams() []*Upstream {
	if s == nil {
		return nil
	}
	return slices.Clone(s.upstreams)
}

// Set gives the set the snapshot was compiled from, which is not to be
// changed; nil for a nil or zero Snapshot.
func (s *Snapshot) Set() *Set {
	if s == nil {
		return nil
	}
	return s.set
}

// ETag is equal for two snapshots that say the same, and different for any
// other two: a hash of the set's JSON, in hexadecimal; the quotes that a
// header needs are the caller's. Where values were written does not count.
// Empty for a nil or zero Snapshot.
func (s *Snapshot) ETag() string {
	if s == nil {
		return ""
	}
	return s.etag
}
