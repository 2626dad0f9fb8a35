package fallbackcache

import (
	"crypto/rand"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// What the zero value of a Cache means.
const (
	DefaultMaxBytes     = 64 << 20
	DefaultMaxObject    = 4 << 20
	DefaultMaxDiskBytes = 1 << 30
	DefaultMaxDiskFiles = 100_000
)

// Cache is a bounded memory of good answers. The zero value is ready for use.
// It is safe for concurrent use, its fields are not to be changed once it is
// used, and it must not be copied. It starts no goroutine and needs no
// closing.
type Cache struct {
	// MaxBytes bounds the memory in all: bodies, fields, keys and an estimate
	// of the bookkeeping, and the bodies being recorded at the moment, which
	// may take up to half of it. 0 means 64 MiB, a negative value that nothing
	// is stored. What was least recently used goes first.
	MaxBytes int64

	// MaxObject bounds one body, in bytes. 0 means 4 MiB, a negative value
	// that only empty bodies are stored. An answer larger than half of
	// MaxBytes is never stored, whatever is said here.
	MaxObject int64

	// Credentials names the request fields that tell users apart, in any
	// case. Answers to requests in which one of them differs, or is there in
	// one and not in the other, never mix. Nil means [DefaultCredentials]; an
	// empty list means none. Userinfo in the URL always counts.
	Credentials []string

	// Partition names the part of the cache that a request belongs to, for
	// whatever Credentials cannot express: a tenant, a client certificate, the
	// user that a base signs for. Answers to what a base signed are not stored;
	// without a Partition such a call may be answered, when it fails, with what
	// was said to one that the caller wrote alike and the base did not sign.
	// Requests with different names never see each other's answers. Nil, or
	// an empty name, means the common part. It is called without locks held,
	// from several goroutines at once, and must not change the request.
	Partition func(*http.Request) string

	// Shared holds this cache to the rules of a shared one: only answers that
	// say public are stored, none that sets a cookie, and s-maxage counts.
	// Requests with credentials still see their own answers only.
	//
	// With Dir it is also what lets several users of the host have one folder.
	// Such a folder must be there, and be of one group that may write in it,
	// others must have no right to it, and new files must get its group: `install
	// -d -m 2770 -g GROUP DIR`. The members trust each other: any of them can
	// read all that is stored, with the URLs, and can put any answer in another's
	// way, because the key of the checksums lies in the folder. Answers to
	// requests with credentials, or of a Partition, are kept out of it.
	Shared bool

	// Dir is a folder in which answers are kept on disk too, so that they
	// survive the process, and are shared by the processes of one user that
	// name the same folder (of several users with Shared). It is made with mode 0700 if it is not there, on a
	// local file system; the cache keeps to a folder of its own in it. Empty
	// means memory only. If the folder cannot be used, or fails later, the
	// cache goes on in memory: [Cache.Open] and [Cache.Stats] say so.
	//
	// [Folder.Purge] empties it. Whose folder is removed goes on with what is in
	// memory until it next stores or removes an answer, and then makes the folder
	// anew; what other processes change until then it does not see.
	//
	// Name one folder in several caches only if their requests go out as the
	// same user: what is added on the way is not part of what an answer is
	// found by.
	Dir string

	// MaxDiskBytes and MaxDiskFiles bound what is in Dir, for all processes
	// together: each keeps to its own numbers when it stores. 0 means 1 GiB
	// and 100,000, a negative value that nothing is stored there. What was
	// used longest ago goes first, roughly.
	MaxDiskBytes int64
	MaxDiskFiles int64

	once     sync.Once
	memory   memory
	flights  flights
	disk     *disk                // nil: none
	opened   error                // why not
	dir      string               // Dir, absolute
	reopened atomic.Pointer[disk] // in place of disk; nil: that is there
	reopens  sync.Mutex
	noReopen time.Time // until then, since it has failed. With reopens
	counts   counters
	secret   [32]byte
	hashes   sync.Pool       // of hash.Hash, keyed with secret
	fields   map[string]bool // Credentials, canonical
}

// ready makes the zero value usable.
func (c *Cache) ready() {
	c.once.Do(func() {
		_, _ = rand.Read(c.secret[:]) // it never fails: crypto/rand ends the process first

		names := c.Credentials
		if names == nil {
			names = DefaultCredentials()
		}
		c.fields = make(map[string]bool, len(names))
		for _, name := range names {
			c.fields[http.CanonicalHeaderKey(name)] = true
		}

		c.memory.max = c.MaxBytes
		if c.MaxBytes == 0 {
			c.memory.max = DefaultMaxBytes
		}
		c.memory.open()
		c.flights.ahead, c.flights.revalidating = map[uint64]*Flight{}, map[uint64]bool{}
		c.openDir()
	})
}

// Open opens Dir now rather than at the first use, and says why it cannot be
// used. Without Dir it returns nil. It is not needed.
func (c *Cache) Open() error {
	c.ready()
	return c.opened
}

func (c *Cache) openDir() {
	if c.Dir == "" || c.MaxBytes < 0 || c.MaxDiskBytes < 0 || c.MaxDiskFiles < 0 {
		return
	}
	var d *disk
	var err error
	if c.dir, err = filepath.Abs(c.Dir); err == nil { // it is made anew where it was
		d, err = c.newDisk()
	}
	if err != nil {
		c.opened = err
		c.counts.failed(err)
		return
	}
	c.disk = d
	c.secret = d.hash("users", string(d.scope[:]))
}

func (c *Cache) newDisk() (*disk, error) {
	d, err := openDisk(c.dir, c.Shared)
	if err != nil {
		return nil, err
	}
	d.maxBytes, d.maxFiles = c.MaxDiskBytes, c.MaxDiskFiles
	if d.maxBytes == 0 {
		d.maxBytes = DefaultMaxDiskBytes
	}
	if d.maxFiles == 0 {
		d.maxFiles = DefaultMaxDiskFiles
	}
	d.maxFile = 4*c.maxObject() + 1<<20 // a few variants, and their fields
	d.counts = &c.counts
	d.scope = c.scope(d)
	return d, nil
}

// reopen makes or enters the store that takes the place of one whose folder was
// removed under us. What is in memory was read from the old one, and its numbers
// are not those of the new one, so it is not given any more. The users' hashes
// stay those of the old one: of answers to requests with credentials this process
// has its own until it is restarted.
func (c *Cache) reopen(gone *disk) {
	c.reopens.Lock()
	defer c.reopens.Unlock()
	if c.onDisk() != gone || time.Now().Before(c.noReopen) {
		return // another has, or has failed a moment ago
	}
	d, err := c.newDisk()
	if err != nil {
		c.counts.failed(err)
		c.noReopen = time.Now().Add(lockRest)
		return
	}
	c.reopened.Store(d)
}

// maxObject is the longest body that is recorded.
func (c *Cache) maxObject() int64 {
	limit := c.MaxObject
	if limit == 0 {
		limit = DefaultMaxObject
	}
	return max(0, min(limit, c.memory.max/2))
}
