package fallbackcache

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What a disk store is made of, below the folder the user names. The version
// of the layout is part of the folder's name; that of an entry stands in its
// file.
const (
	diskFolder  = "resagent-v1"
	lockFile    = "lock"
	keyFile     = "key"     // 32 random bytes
	usageFile   = "usage"   // see usage
	changesFile = "changes" // see changes
	newFile     = "new"     // a file being written, by whoever holds the lock

	shards = 1024 // folders of entries, "000" to "3ff"
)

// How long a store waits for another process's, how long it leaves it at that
// after waiting in vain, and how long a removal waits, which goes on without
// the lock then.
const (
	lockWait = 20 * time.Millisecond
	lockRest = time.Second
	dropWait = 100 * time.Millisecond
	openWait = 2 * time.Second

	enterWait = 250 * time.Millisecond // for another user to finish making the store
)

// disk keeps entries in files, for this process after a restart and for others
// at the same time. Readers take no lock: a file is complete from the moment
// it has its name. Writers take one lock of the folder, so that there is one
// unfinished file at most, which the next writer overwrites.
//
// Nothing is synced: what the kernel has survives the process, and what power
// loss tears fails its check.
type disk struct {
	root     *os.Root
	shared   bool // by several users
	key      [32]byte
	scope    [sha256.Size]byte // of what keeps users apart; see Cache.scope
	maxBytes int64
	maxFiles int64
	maxFile  int64 // none longer is read or written

	lock    *os.File
	usage   *os.File
	changes *os.File

	mu      sync.Mutex // as the lock, within this process
	cursor  int
	sweep   int      // stores until a shard is counted anew
	victims []stored // to be evicted next

	broken atomic.Bool  // a removal failed: nothing is read here any more
	rest   atomic.Int64 // Unix nanoseconds until which nothing is stored
	counts *counters
}

// change is the state of a URI as readers see it: which removals and which
// stores it, and those that share its place, have had. Both are random numbers,
// compared for equality only, so that writing one needs no lock.
type change struct{ drops, puts uint64 }

const changeSize = 16

// changePlaces is how many states there are. A hundred other URIs invalidated
// during a call cost one store in 160. They take 256 KiB.
const changePlaces = 1 << 14

// openDisk opens or makes the store in dir. It reads no entry, unless the
// account of them is lost.
func openDisk(dir string, shared bool) (d *disk, err error) {
	// Until the first of several users has set its modes the others may not enter.
	for end := time.Now().Add(enterWait); ; time.Sleep(time.Millisecond) {
		if d, err = enterDisk(dir, shared); !shared || !errors.Is(err, fs.ErrPermission) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("fallbackcache: disk store in %s: %w", dir, err)
	}
	return d, nil
}

func enterDisk(dir string, shared bool) (d *disk, err error) {
	if shared {
		err = sharedOuter(dir)
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	outer, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer outer.Close()
	d = &disk{shared: shared, counts: new(counters)}
	if err := d.mkdir(outer, diskFolder); err != nil {
		return nil, err
	}
	info, err := outer.Lstat(diskFolder)
	if err != nil {
		return nil, err
	}
	check := private
	if shared {
		check = sharedInner
	}
	if err := check(info); err != nil {
		return nil, fmt.Errorf("%s: %w", diskFolder, err)
	}
	if d.root, err = outer.OpenRoot(diskFolder); err != nil {
		return nil, err
	}
	opened, err := d.root.Stat(".")
	if err == nil && !os.SameFile(info, opened) { // by the owner of dir, who may be another
		err = fmt.Errorf("%s: was replaced while it was opened", diskFolder)
	}
	if err == nil {
		err = d.openFiles()
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *disk) openFiles() (err error) {
	for name, file := range map[string]**os.File{lockFile: &d.lock, usageFile: &d.usage, changesFile: &d.changes} {
		if *file, err = d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
		if err := d.open(*file); err != nil {
			return err
		}
	}
	if !d.hold(openWait) {
		return errors.New("another process holds its lock; is one stopped?")
	}
	defer d.let()
	if err := d.readKey(); err != nil {
		return err
	}
	if info, err := d.changes.Stat(); err != nil || info.Size() != changePlaces*changeSize {
		if err := d.noteAll(); err != nil {
			return err
		}
		if err := d.changes.Truncate(changePlaces * changeSize); err != nil {
			return err
		}
	}
	d.cursor = int(d.key[0]) ^ os.Getpid()%shards
	return d.openUsage()
}

// readKey reads the folder's secret, or makes one. What a lost one had hashed
// is not found again, and goes with age.
func (d *disk) readKey() error {
	text, err := d.root.ReadFile(keyFile)
	if err == nil && len(text) == len(d.key) {
		copy(d.key[:], text)
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, _ = rand.Read(d.key[:])
	if err := d.writeNew(d.key[:]); err != nil {
		return err
	}
	return d.root.Rename(newFile, keyFile)
}

func (d *disk) close() {
	for _, f := range []*os.File{d.lock, d.usage, d.changes} {
		if f != nil {
			f.Close()
		}
	}
	d.root.Close()
}

// hold takes the lock, if it can be had within the given time. It is polled:
// a process that is stopped while it holds it must not stop others.
func (d *disk) hold(most time.Duration) bool {
	for end := time.Now().Add(most); ; time.Sleep(time.Millisecond / 2) {
		if d.mu.TryLock() {
			if tryLock(d.lock) {
				return true
			}
			d.mu.Unlock()
		}
		if !time.Now().Before(end) {
			return false
		}
	}
}

func (d *disk) let() {
	unlock(d.lock)
	d.mu.Unlock()
}

// hash is a keyed hash of strings, told apart by their lengths.
func (d *disk) hash(parts ...string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, d.key[:])
	for _, s := range parts {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		mac.Write([]byte(s))
	}
	return [sha256.Size]byte(mac.Sum(nil))
}

// The name of a file is the URI and the audience of its group, hashed. What a
// name promises is checked in the file.
const (
	uriDigits  = 32
	whoDigits  = 16
	nameDigits = uriDigits + 1 + whoDigits
)

func (d *disk) uriName(uri string) (shard int, prefix string) {
	h := d.hash("uri", uri)
	return int(binary.BigEndian.Uint16(h[:]) % shards), hex.EncodeToString(h[:uriDigits/2]) + "-"
}

func (d *disk) fileName(uri string, who audience) (shard int, name string) {
	h := d.hash("who", string(d.scope[:]), string(who[:]))
	shard, name = d.uriName(uri)
	return shard, name + hex.EncodeToString(h[:whoDigits/2])
}

func shardName(shard int) string { return fmt.Sprintf("%03x", shard) }

func path(shard int, name string) string { return shardName(shard) + "/" + name }

// names lists the files of a URI, whoever they are for.
func (d *disk) names(uri string) (shard int, names []string, err error) {
	shard, prefix := d.uriName(uri)
	if files, known := d.filesIn(shard); known && files == 0 {
		return shard, nil, nil
	}
	dir, err := d.root.Open(shardName(shard))
	if errors.Is(err, fs.ErrNotExist) {
		return shard, nil, nil
	}
	if err != nil {
		return shard, nil, err
	}
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return shard, nil, err
	}
	return shard, slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, prefix) }), nil
}

// changePlace is where the state of a URI is, in bytes.
func (d *disk) changePlace(uri string) int64 {
	h := d.hash("uri", uri)
	return int64(binary.BigEndian.Uint32(h[2:])%changePlaces) * changeSize // the first two bytes are the shard's
}

// changed reads what a URI has had. Where it cannot be read, nothing here can be
// trusted to be current.
func (d *disk) changed(uri string) (c change, ok bool) {
	var b [changeSize]byte
	if _, err := d.changes.ReadAt(b[:], d.changePlace(uri)); err != nil {
		d.fail(err)
		return change{}, false
	}
	return change{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, true
}

// note writes a new number for a URI's removals or stores, and returns it.
func (d *disk) note(uri string, field int64) (uint64, error) {
	var b [8]byte
	_, _ = rand.Read(b[:])
	_, err := d.changes.WriteAt(b[:], d.changePlace(uri)+field*8)
	return binary.BigEndian.Uint64(b[:]), err
}

// noteAll writes new ones for all URIs.
func (d *disk) noteAll() error {
	random := make([]byte, changePlaces*changeSize)
	_, _ = rand.Read(random)
	_, err := d.changes.WriteAt(random, 0)
	return err
}

// The fields of a change.
const (
	noteDrop = 0
	notePut  = 1
)

// gone tells whether the folder, or what all must have in common in it, was removed:
// what we have open is not what others open. Of a folder that was entered while it
// was being removed anything may be left.
func (d *disk) gone() bool {
	for name, file := range map[string]*os.File{lockFile: d.lock, usageFile: d.usage, changesFile: d.changes} {
		ours, err := file.Stat()
		if err != nil {
			return false
		}
		theirs, err := d.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(ours, theirs) {
			return true
		}
	}
	key, err := d.root.ReadFile(keyFile)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(key, d.key[:])
}

// fail gives the store up for the rest of this process: it could not be
// changed, and so it cannot be believed.
func (d *disk) fail(err error) {
	d.counts.failed(err)
	d.broken.Store(true)
}
