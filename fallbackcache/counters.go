package fallbackcache

import (
	"sync"
	"sync/atomic"
)

// counters are what a Cache has seen.
type counters struct {
	hits, misses          atomic.Int64
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

// Stats is what a Cache has done since its first use. Counts only grow.
type Stats struct {
	// Hits and Misses of Find and Look: whether there was something to be given.
	Hits, Misses int64
	// Collapsed are calls that got the answer of another one under way.
	Collapsed int64
	// Revalidations in the background that were begun, and those that were not
	// because too many were under way.
	Revalidations, RevalidationsDropped int64
	// DiskStored and DiskEvicted are entries written to the disk store, and
	// those removed from it to make room, by this process.
	DiskStored, DiskEvicted int64
	// DiskDamaged are files that were no entries, and were removed.
	DiskDamaged int64
	// DiskBusy are entries that are in memory only, because other processes
	// held the store's lock for too long.
	DiskBusy int64
	// DiskErrors counts failures of the disk, and DiskError is the last of
	// them; nil: there was none.
	DiskErrors int64
	DiskError  error
}

// Stats returns what the cache has done. It is safe for concurrent use.
func (c *Cache) Stats() Stats {
	c.ready()
	n := &c.counts
	n.mu.Lock()
	defer n.mu.Unlock()
	return Stats{
		Hits: n.hits.Load(), Misses: n.misses.Load(), Collapsed: n.collapsed.Load(),
		Revalidations: n.revalidations.Load(), RevalidationsDropped: n.dropped.Load(),
		DiskStored: n.stored.Load(), DiskEvicted: n.evicted.Load(), DiskDamaged: n.damaged.Load(),
		DiskBusy: n.busy.Load(), DiskErrors: n.errors.Load(), DiskError: n.last,
	}
}
