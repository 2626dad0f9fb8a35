package fallbackcache

import (
	"sync"
	"sync/atomic"
)

// counters are what a Cache has seen.
type counters struct {
	hits, misses            atomic.Int64
	fresh, stale, confirmed atomic.Int64
	fates                   [fates]atomic.Int64

	stored, busy, damaged atomic.Int64
	evicted, errors       atomic.Int64
	collapsed             atomic.Int64
	revalidations         atomic.Int64
	dropped               atomic.Int64

	mu   sync.Mutex
	last error
}

func (c *counters) failed(err error) {
	c.errors.Add(1)
	c.mu.Lock()
	c.last = err
	c.mu.Unlock()
}

// given counts an answer.
func (c *counters) given(fresh bool) {
	if fresh {
		c.fresh.Add(1)
	} else {
		c.stale.Add(1)
	}
}

// Stats is what a Cache has done since its first use, and what it holds. Counts
// only grow.
type Stats struct {
	// Hits and Misses of Find and Look: whether there was something to be given. A
	// call may look more than once, and not give what it finds.
	Hits, Misses int64
	// Fresh and Stale answers that were given, and those that a 304 Confirmed.
	Fresh, Stale, Confirmed int64
	// Collapsed are calls that got the answer of another one under way.
	Collapsed int64
	// Revalidations in the background that were begun, and those that were not
	// because too many were under way.
	Revalidations, RevalidationsDropped int64
	// Stored are the responses that were kept, NotStored those that were not, by
	// the name of their [Fate].
	Stored    int64
	NotStored map[string]int64
	// Evicted are answers that went from memory to make room.
	Evicted int64
	// Entries and Bytes are what is in memory now, as MaxBytes counts it; what
	// is being recorded is in Bytes.
	Entries, Bytes int64

	// DiskFiles and DiskBytes are what is in Dir now, of all processes, by their
	// account; 0 without a store there.
	DiskFiles, DiskBytes int64
	// DiskStored and DiskEvicted are files written to the disk store, and those
	// removed from it to make room, by this process.
	DiskStored, DiskEvicted int64
	// DiskDamaged are files that were not of this store, and were removed.
	DiskDamaged int64
	// DiskBusy are answers that are in memory only, because other processes
	// held the store's lock for too long.
	DiskBusy int64
	// DiskErrors counts failures of the disk, and DiskError is the last of
	// them; nil: there was none.
	DiskErrors int64
	DiskError  error
}

// Stats returns what the cache has done. It is safe for concurrent use, and
// reads the account of Dir: it is for once a second, not for each call.
func (c *Cache) Stats() Stats {
	c.ready()
	n := &c.counts
	s := Stats{
		Hits: n.hits.Load(), Misses: n.misses.Load(),
		Fresh: n.fresh.Load(), Stale: n.stale.Load(), Confirmed: n.confirmed.Load(),
		Collapsed: n.collapsed.Load(), Revalidations: n.revalidations.Load(), RevalidationsDropped: n.dropped.Load(),
		Stored: n.fates[Stored].Load(), NotStored: map[string]int64{},
		DiskStored: n.stored.Load(), DiskEvicted: n.evicted.Load(), DiskDamaged: n.damaged.Load(),
		DiskBusy: n.busy.Load(), DiskErrors: n.errors.Load(),
	}
	for f := Stored + 1; f < fates; f++ {
		if count := n.fates[f].Load(); count > 0 {
			s.NotStored[f.String()] = count
		}
	}
	n.mu.Lock()
	s.DiskError = n.last
	n.mu.Unlock()
	m := &c.memory
	m.mu.Lock()
	s.Entries, s.Bytes, s.Evicted = m.entries, m.stored+m.recording, m.evicted
	m.mu.Unlock()
	if d := c.onDisk(); d != nil {
		s.DiskFiles, s.DiskBytes = d.total()
	}
	return s
}
