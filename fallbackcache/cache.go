package fallbackcache

import (
	"crypto/rand"
	"net/http"
	"sync"
)

// What the zero value of a Cache means.
const (
	DefaultMaxBytes  = 64 << 20
	DefaultMaxObject = 4 << 20
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
	// whatever Credentials cannot express: a tenant, a client certificate.
	// Requests with different names never see each other's answers. Nil, or
	// an empty name, means the common part. It is called without locks held,
	// from several goroutines at once, and must not change the request.
	Partition func(*http.Request) string

	once   sync.Once
	memory memory
	secret [32]byte
	hashes sync.Pool       // of hash.Hash, keyed with secret
	fields map[string]bool // Credentials, canonical
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
	})
}

// maxObject is the longest body that is recorded.
func (c *Cache) maxObject() int64 {
	limit := c.MaxObject
	if limit == 0 {
		limit = DefaultMaxObject
	}
	return max(0, min(limit, c.memory.max/2))
}
