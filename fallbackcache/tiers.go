package fallbackcache

import (
	"crypto/sha256"
	"net/http"
	"slices"
)

// The memory answers, where the disk has not changed since it was filled; else
// the disk does. These are all the ways to either.

// Stamp is the state of a URI when it was asked for, which storing the answer
// compares: what was changed in between is not stored. The zero value knows
// nothing of the time before the response arrived.
type Stamp struct{ memory, drops uint64 }

// Stamp is to be taken before req is sent, and given to [Cache.KeepAnd] or
// [Cache.Confirm] with the response: the origin may have made that before
// another request changed it, here or in a process with the same Dir. Without Dir
// it allocates nothing.
func (c *Cache) Stamp(req *http.Request) (s Stamp) {
	c.ready()
	s.memory = c.memory.glance()
	if d := c.onDisk(); d != nil {
		if uri, ok := target(req); ok {
			at, _ := d.changed(uri)
			s.drops = at.drops
		}
	}
	return s
}

// since is a stamp as it was taken, or that of now where none was.
func (c *Cache) since(s Stamp, req *http.Request) Stamp {
	if s == (Stamp{}) {
		return c.Stamp(req)
	}
	return s
}

// onDisk is the disk store, nil where there is none or none to be trusted.
func (c *Cache) onDisk() *disk {
	d := c.disk
	if again := c.reopened.Load(); again != nil {
		d = again
	}
	if d == nil || d.broken.Load() {
		return nil
	}
	return d
}

// inPlace is onDisk for a removal: of a folder that was removed what is in its place
// now, since others may have it by now.
func (c *Cache) inPlace() *disk {
	d := c.onDisk()
	if d == nil || !d.gone() {
		return d
	}
	c.reopen(d)
	return c.onDisk()
}

// find returns the variants for this URI and audience.
func (c *Cache) find(uri string, who audience) []*entry {
	d := c.onDisk()
	if d == nil {
		found, _ := c.memory.find(uri, who)
		return found
	}
	at, ok := d.changed(uri)
	if !ok {
		found, _ := c.memory.find(uri, who)
		return found
	}
	found, seen := c.memory.find(uri, who)
	if c.memoryOnly(who) {
		if seen.drops != at.drops {
			return nil
		}
		return found
	}
	if found != nil && seen == at {
		return found
	}
	now := c.memory.glance()
	loaded := d.load(uri, who)
	c.memory.install(uri, who, loaded, at, now)
	return loaded
}

// mayHold tells whether there may be something for a request, without
// allocating. Where there is a disk, looking there is left to others.
func (c *Cache) mayHold(req *http.Request) bool {
	if c.onDisk() != nil {
		return true
	}
	var space [256]byte
	key, ok := appendTarget(space[:0], req)
	return ok && c.memory.holds(key)
}

// put stores e, and tells whether it did.
func (c *Cache) put(e *entry, over []*entry, s Stamp) Fate {
	d := c.onDisk()
	if d == nil {
		return c.memory.put(e, over, s.memory, change{})
	}
	group, at, result := []*entry(nil), change{}, putFailed
	switch {
	case c.memoryOnly(e.who):
	case d.gone():
		c.reopen(d) // for the next one: this one was asked for by the old one's numbers
	default:
		group, at, result = d.put(e, over, s.drops)
	}
	switch result {
	case putDone:
		c.memory.install(e.uri, e.who, group, at, s.memory)
		return Stored
	case putFailed:
		if at, ok := d.changed(e.uri); ok && at.drops == s.drops {
			return c.memory.put(e, over, s.memory, at)
		}
	}
	return Superseded
}

func (c *Cache) remove(uri string, who audience, gone []*entry) {
	c.memory.remove(uri, who, gone)
	if d := c.inPlace(); d != nil {
		d.remove(uri, who, gone)
	}
}

func (c *Cache) drop(uri string) {
	c.memory.drop(uri)
	if d := c.inPlace(); d != nil {
		d.drop(uri)
	}
}

// scope names what keeps users apart in this Cache. Caches on one folder that do
// it differently must not see each other's answers.
func (c *Cache) scope(d *disk) [sha256.Size]byte {
	names := make([]string, 0, len(c.fields))
	for name := range c.fields {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	slices.Sort(names)
	parts := append([]string{"scope", "common"}, names...)
	if c.Partition != nil {
		parts[1] = "partitions"
	}
	if c.Shared {
		parts[0] = "shared" // what was stored before a folder was opened to others is not for them
	}
	return d.hash(parts...)
}
