package fallbackcache

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"time"
)

// A file holds a group: the variants for one URI and audience, so that a look is
// one file of a known name. It is this line, a keyed checksum of all that
// follows, and the group. A file of another version, another folder or another
// time's key fails the one or the other.
const fileLine = "resagent cache answers 1\n"

const fileHead = len(fileLine) + sha256.Size

var errDamaged = errors.New("not a file of this store, or damaged")

// encode writes a group, which is not empty, as a file.
func (d *disk) encode(group []*entry) []byte {
	size := fileHead
	for _, e := range group {
		size += int(e.size)
	}
	out := make([]byte, fileHead, size)
	copy(out, fileLine)
	number := func(n int64) { out = binary.BigEndian.AppendUint64(out, uint64(n)) }
	text := func(s string) {
		number(int64(len(s)))
		out = append(out, s...)
	}
	flag := func(b bool) {
		if b {
			out = append(out, 1)
		} else {
			out = append(out, 0)
		}
	}
	out = append(out, d.scope[:]...)
	out = append(out, group[0].who[:]...)
	text(group[0].uri)
	number(int64(len(group)))
	for _, e := range group {
		number(int64(len(e.vary)))
		for _, v := range e.vary {
			text(v.name)
			text(v.value)
			flag(v.present)
			flag(v.secret)
		}
		number(int64(e.status))
		text(e.statusText)
		text(e.proto)
		number(int64(e.major))
		number(int64(e.minor))
		number(int64(len(e.fields)))
		for _, f := range e.fields {
			text(f.name)
			text(f.value)
		}
		flag(e.decoded)
		number(e.fresh.arrived.UnixNano())
		number(int64(e.fresh.age))
		number(int64(e.fresh.lifetime))
		flag(e.fresh.neverStale)
		text(e.etag)
		number(int64(len(e.body)))
		out = append(out, e.body...)
	}
	copy(out[len(fileLine):], d.sum(out[fileHead:]))
	return out
}

func (d *disk) sum(b []byte) []byte {
	mac := hmac.New(sha256.New, d.key[:])
	mac.Write([]byte(fileLine))
	mac.Write(b)
	return mac.Sum(nil)
}

// decode reads a file back. What it returns is what was encoded, or an error.
func (d *disk) decode(b []byte) ([]*entry, error) {
	if !d.genuine(b) {
		return nil, errDamaged
	}
	return decodeGroup(b[fileHead:], &d.scope)
}

// genuine tells whether a file is whole and was written with this key.
func (d *disk) genuine(b []byte) bool {
	return len(b) >= fileHead && string(b[:len(fileLine)]) == fileLine &&
		hmac.Equal(b[len(fileLine):fileHead], d.sum(b[fileHead:]))
}

// decodeGroup reads what is behind the checksum, and believes no length in it.
// A scope of nil is any.
func decodeGroup(b []byte, scope *[sha256.Size]byte) (group []*entry, err error) {
	r := &reader{rest: b}
	if found := [sha256.Size]byte(r.take(sha256.Size)); scope != nil && found != *scope {
		r.bad = true
	}
	who, uri := audience(r.take(sha256.Size)), r.text()
	count := r.count()
	for range count {
		e := &entry{loaded: true, who: who, uri: uri}
		for range r.count() {
			e.vary = append(e.vary, varied{r.text(), r.text(), r.flag(), r.flag()})
		}
		e.status = int(r.number())
		e.statusText, e.proto = r.text(), r.text()
		e.major, e.minor = int(r.number()), int(r.number())
		for range r.count() {
			e.fields = append(e.fields, field{r.text(), r.text()})
		}
		e.decoded = r.flag()
		e.fresh.arrived = time.Unix(0, r.number())
		e.fresh.age, e.fresh.lifetime = time.Duration(r.number()), time.Duration(r.number())
		e.fresh.neverStale = r.flag()
		e.etag = r.text()
		e.body = r.bytes()
		if r.bad || e.status < 200 || e.status > 599 ||
			e.fresh.age < 0 || e.fresh.age > farAway || e.fresh.lifetime < 0 || e.fresh.lifetime > farAway {
			return nil, errDamaged
		}
		if count > 1 {
			e.body = slices.Clone(e.body) // so that none keeps the others in memory
		}
		e.size = e.weigh()
		group = append(group, e)
	}
	if r.bad || len(r.rest) > 0 || uri == "" || count == 0 {
		return nil, errDamaged
	}
	return group, nil
}

// reader takes values off the front of bytes. After the first that is not
// there all others are zero, and bad is set.
type reader struct {
	rest []byte
	bad  bool
}

var zeroes [sha256.Size]byte

// take returns n bytes, at most 32.
func (r *reader) take(n int) []byte {
	if r.bad || len(r.rest) < n {
		r.bad, r.rest = true, nil
		return zeroes[:n]
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) number() int64 { return int64(binary.BigEndian.Uint64(r.take(8))) }

func (r *reader) flag() bool {
	b := r.take(1)[0]
	r.bad = r.bad || b > 1
	return b == 1
}

// count reads how many items follow. Each has a byte at least.
func (r *reader) count() int {
	n := r.number()
	if n < 0 || n > int64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) text() string { return string(r.bytes()) }

// bytes returns a piece of what is read, of which the length stands before it.
func (r *reader) bytes() []byte {
	n := r.count()
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// read reads one file. One that is not of this store is removed.
func (d *disk) read(shard int, name string) (group []*entry, err error) {
	info, err := d.root.Lstat(path(shard, name))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		d.discard(shard, name)
		return nil, errDamaged
	}
	file, err := d.root.OpenFile(path(shard, name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, err
	}
	if info.Size() > d.maxFile {
		return nil, errDamaged // another process's larger limit, perhaps
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(file, b); err != nil {
		return nil, err // shorter than it was a moment ago, or an error of the disk
	}
	if group, err = d.decode(b); err == nil {
		if _, promised := d.fileName(group[0].uri, group[0].who); promised != name {
			err = errDamaged
		}
	}
	if err != nil {
		d.discard(shard, name)
		return nil, err
	}
	if now := time.Now(); now.Sub(info.ModTime()) > useGrain {
		d.used(path(shard, name), now)
	}
	return group, nil
}

// used sets a file's time to that of its last use, for eviction. Another user's
// has it only by being written to: its first byte is what it was.
func (d *disk) used(name string, now time.Time) {
	if d.root.Chtimes(name, now, now) == nil || !d.shared {
		return
	}
	if file, err := d.root.OpenFile(name, os.O_WRONLY, 0); err == nil {
		_, _ = file.WriteAt([]byte(fileLine[:1]), 0)
		file.Close()
	}
}

// useGrain is how exactly a file's time tells its last use.
const useGrain = time.Minute

// discard removes a file that is damaged. The account of its shard is put
// right when its turn comes.
func (d *disk) discard(shard int, name string) {
	d.counts.damaged.Add(1)
	_ = d.root.RemoveAll(path(shard, name))
}
