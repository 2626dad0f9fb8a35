package idempotency

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// newest is the time of the newest key: milliseconds since 1970 and a
// fraction of 1/4096, as the upper 60 bits of a key hold it. It only grows.
var newest atomic.Uint64

// NewKey returns a new key: a version 7 UUID in lower case,
// "0192b1f0-5c3e-7d41-9a6b-3f2e8c7d1a05" for example. 62 bits are random, from
// crypto/rand. Keys of one process sort in the order in which they were made,
// also if the clock is set back. It is safe for concurrent use.
func NewKey() string {
	var id [16]byte
	_, _ = rand.Read(id[8:]) // it never fails: crypto/rand ends the process first
	stamp := tick(time.Now())
	// RFC 9562, section 5.7, with rand_a as a finer time (section 6.2, method 3).
	binary.BigEndian.PutUint64(id[:8], stamp>>12<<16|0x7000|stamp&0xfff)
	id[8] = id[8]&0x3f | 0x80

	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	text[8] = '-'
	hex.Encode(text[9:13], id[4:6])
	text[13] = '-'
	hex.Encode(text[14:18], id[6:8])
	text[18] = '-'
	hex.Encode(text[19:23], id[8:10])
	text[23] = '-'
	hex.Encode(text[24:36], id[10:16])
	return string(text[:])
}

// tick returns a stamp for now that is above all before.
func tick(now time.Time) uint64 {
	nanos := uint64(max(0, now.UnixNano()))
	const milli = uint64(time.Millisecond)
	stamp := nanos/milli<<12 | nanos%milli<<12/milli
	for {
		last := newest.Load()
		next := max(stamp, last+1)
		if newest.CompareAndSwap(last, next) {
			return next
		}
	}
}
