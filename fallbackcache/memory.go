package fallbackcache

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxVariants bounds the answers kept side by side for one URI and audience:
// they are looked through one by one.
const maxVariants = 16

// memory holds the entries, grouped by URI and audience. A group is what is
// found, and what is dropped when room is needed: the least recently used one
// first. The order is golang-lru's, which counts no bytes: they are counted
// here, with those of the recordings. This type's methods are all that the rest
// of the package knows of the storing, so that another store can take its place.
type memory struct {
	max int64

	mu        sync.Mutex
	stored    int64 // bytes in groups
	entries   int64 // in groups
	evicted   int64 // since the beginning
	recording int64 // bytes of bodies being recorded
	groups    *simplelru.LRU[groupKey, *group]
	uris      map[string]map[audience]bool

	// dropped has the number of the last invalidation for each of several
	// hashes of a URI, so that what was asked for before one is not stored
	// after it. Of two URIs that share all of them one costs the other a
	// store, never a wrong answer.
	seed    maphash.Seed
	drops   atomic.Uint64 // invalidations so far, and one: the stamp. Written with the lock
	dropped [dropHashes][]uint64
}

// A hundred other URIs invalidated during a call cost one store in ten
// thousand: (100/1024)^4. It takes 32 KiB.
const (
	dropHashes = 4
	dropPlaces = 1024
)

type groupKey struct {
	uri string
	who audience
}

// group is the variants of one URI for one audience. The slice is replaced,
// never changed, so that readers need no lock.
type group struct {
	key      groupKey
	variants []*entry
	size     int64
	seen     change // the disk's state that this is a copy of
}

func (m *memory) open() {
	m.groups, _ = simplelru.NewLRU[groupKey, *group](math.MaxInt, nil) // it refuses sizes below 1 only
	m.uris = map[string]map[audience]bool{}
	m.seed = maphash.MakeSeed()
	m.drops.Store(1)
	for i := range m.dropped {
		m.dropped[i] = make([]uint64, dropPlaces)
	}
}

// find returns the variants stored for this URI and audience, and the disk's
// state that they are a copy of.
func (m *memory) find(uri string, who audience) ([]*entry, change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.groups.Get(groupKey{uri, who})
	if !ok {
		return nil, change{}
	}
	return g.variants, g.seen
}

// install makes variants, as the disk has them, those of a URI and audience,
// unless the URI was dropped since the stamp.
func (m *memory) install(uri string, who audience, variants []*entry, at change, stamp uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.droppedSince(uri, stamp) {
		return
	}
	for len(variants) > 0 && sum(variants) > m.max/2 {
		variants = variants[1:]
	}
	m.replace(groupKey{uri, who}, variants, at)
	m.makeRoom()
}

// glance returns the stamp that put wants of what is asked for now. It is not 0.
func (m *memory) glance() (stamp uint64) { return m.drops.Load() }

// holds tells whether anything is stored for a URI.
func (m *memory) holds(uri []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.uris[string(uri)]) > 0 // which makes no string
}

// put stores e in place of the entries in over, unless there is a newer one
// among the same variants, or the URI was dropped since the stamp. Variants from
// before a removal by another process go.
func (m *memory) put(e *entry, over []*entry, stamp uint64, at change) Fate {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.size > m.max/2 {
		return TooLarge
	}
	if m.droppedSince(e.uri, stamp) {
		return Superseded
	}
	key := groupKey{e.uri, e.who}
	var stored []*entry
	if g, ok := m.groups.Peek(key); ok && g.seen.drops == at.drops {
		stored = g.variants
	}
	kept, ok := merge(stored, e, func(old *entry) bool { return slices.Contains(over, old) })
	if !ok {
		return Superseded
	}
	for sum(kept) > m.max/2 {
		kept = kept[1:]
	}
	m.replace(key, kept, at)
	m.makeRoom()
	return Stored
}

// remove takes out the given entries of a URI and audience.
func (m *memory) remove(uri string, who audience, gone []*entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := groupKey{uri, who}
	g, ok := m.groups.Peek(key)
	if !ok {
		return
	}
	m.mark(uri)
	m.replace(key, slices.DeleteFunc(slices.Clone(g.variants), func(e *entry) bool {
		return slices.Contains(gone, e)
	}), g.seen)
}

// drop takes out all that is stored for a URI, whoever may see it.
func (m *memory) drop(uri string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mark(uri)
	for who := range m.uris[uri] {
		m.replace(groupKey{uri, who}, nil, change{})
	}
}

// mark numbers a removal.
func (m *memory) mark(uri string) {
	now := m.drops.Add(1)
	hash := maphash.String(m.seed, uri)
	for i := range m.dropped {
		m.dropped[i][dropPlace(hash, i)] = now
	}
}

// droppedSince tells whether a URI may have been dropped after the stamp.
func (m *memory) droppedSince(uri string, stamp uint64) bool {
	if m.drops.Load() == stamp {
		return false
	}
	hash := maphash.String(m.seed, uri)
	for i := range m.dropped {
		if m.dropped[i][dropPlace(hash, i)] <= stamp {
			return false
		}
	}
	return true
}

func dropPlace(hash uint64, i int) uint64 { return hash >> (16 * i) % dropPlaces }

// replace sets the variants of a group, most recently used; none removes it.
func (m *memory) replace(key groupKey, variants []*entry, at change) {
	if old, ok := m.groups.Peek(key); ok {
		m.stored -= old.size
		m.entries -= int64(len(old.variants))
		m.groups.Remove(key)
		delete(m.uris[key.uri], key.who)
		if len(m.uris[key.uri]) == 0 {
			delete(m.uris, key.uri)
		}
	}
	if len(variants) == 0 {
		return
	}
	g := &group{key: key, variants: variants, size: sum(variants), seen: at}
	m.groups.Add(key, g)
	if m.uris[key.uri] == nil {
		m.uris[key.uri] = map[audience]bool{}
	}
	m.uris[key.uri][key.who] = true
	m.stored += g.size
	m.entries += int64(len(variants))
}

func (m *memory) makeRoom() {
	for m.stored+m.recording > m.max {
		last, g, ok := m.groups.GetOldest()
		if !ok {
			return
		}
		m.evicted += int64(len(g.variants))
		m.replace(last, nil, change{})
	}
}

func sum(entries []*entry) (n int64) {
	for _, e := range entries {
		n += e.size
	}
	return n
}

// room is the memory that one recording holds while it goes on.
type room struct {
	memory *memory
	size   int64
	over   bool
}

// grow takes n more bytes, at the cost of stored entries if need be. It
// refuses when all recordings together would hold more than half of the
// memory, or when the room was given back.
func (r *room) grow(n int64) bool {
	m := r.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.over || m.recording+n > m.max/2 {
		return false
	}
	r.size += n
	m.recording += n
	m.makeRoom()
	return true
}

// release gives it all back, once.
func (r *room) release() {
	m := r.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recording -= r.size
	r.size, r.over = 0, true
}
