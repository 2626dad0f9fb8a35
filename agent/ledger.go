//go:build linux

package agent

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ledger is what the agent gave out, in a file mapped into memory: it
// outlives the agent's death at any instruction (not the machine's; but that
// ends every holder too). It is written before a grant is written to a cell,
// and lowered after a grant was taken back, so it never says less than the
// truth. Layout 1, in bytes, all words in the machine's order:
//
//	0        header: magic, version, id (16), boot (16), check, recovering until
//	4096     4096 process slots of 64: check, pid, uid, start, inode
//	266240   4096 limit slots of 128: check, state, kind and name (104), every
//	790528   65536 entries of 16: key, value
//
// A process or limit slot counts if its check is right, which is written
// last. An entry counts if its key is not zero: epoch 16 | limit 16 | process
// 16 | cell 15 | 1; its value is granted 24 | check 40, so that it changes in
// one store. A limit's state is one word too: the theoretical arrival time of
// a rate in units of 16 ns since boot, or the level of a budget; every is the
// time from one token to the next, in nanoseconds, that it was counted with.
const (
	ledgerMagic   = 0x3152_4447_4c53_4552 // "RESLGDR1"
	ledgerVersion = 1

	maxProcesses = 4096
	maxLimits    = 4096
	maxEntries   = 65536

	processesAt = 4096
	limitsAt    = processesAt + maxProcesses*64
	entriesAt   = limitsAt + maxLimits*128
	ledgerSize  = entriesAt + maxEntries*16
)

// errDamaged: what is there is no ledger of this version; its grants are lost.
var errDamaged = errors.New("damaged")

// errFull: the ledger has no more room; the limit stays local for the process.
var errFull = errors.New("agent: the ledger is full")

type ledger struct {
	mem  []byte
	id   string
	lost bool // an earlier ledger of this boot is gone or damaged
	lock *os.File

	free freeLists

	// stored, where not nil, is told before and after each store of a word, and
	// may panic there: how a test kills an agent between two of them.
	stored func(at int, v uint64, done bool)
}

type freeLists struct{ processes, limits, entries []int }

// identity of a process's page. start is the process's start time in clock
// ticks since boot.
type identity struct {
	pid, uid   int
	start, ino uint64
}

func (l *ledger) word(at int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&l.mem[at]))
}

// store writes one word.
func (l *ledger) store(at int, v uint64) {
	if l.stored != nil {
		l.stored(at, v, false)
	}
	l.word(at).Store(v)
	if l.stored != nil {
		l.stored(at, v, true)
	}
}

// check is a sum of words that zeroed or overwritten memory does not have.
func check(words ...uint64) uint64 {
	const k1, k2 = 0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9
	h := uint64(0x7265_7361_6765_6e74)
	for _, w := range words {
		h = (h ^ w) * k1
		h ^= h >> 29
		h *= k2
		h ^= h >> 32
	}
	return h | 1
}

// openLedger opens the ledger at path, or makes one. The lock beside it is
// held until close; it also remembers in which boot there was a ledger. Where
// one of this boot is gone or damaged the new one is lost, also for agents that
// come after, until one of them has lived through the time that processes have
// to bring their pages.
func openLedger(path, boot string, now time.Duration) (*ledger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, ledgerError(path, err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, ledgerError(path, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("agent: the ledger %s is in use by another agent: stop that one, or give this one its own --ledger", path)
	}
	l := &ledger{lock: lock}
	err = l.load(path, boot)
	switch {
	case err == nil:
		if l.lost = l.recovery() > 0; l.lost {
			l.setRecovery(now + recovering)
		}
	case errors.Is(err, os.ErrNotExist):
		before, _ := os.ReadFile(path + ".lock")
		l.lost = string(before) == boot
		err = l.create(path, boot, now)
	case errors.Is(err, errOtherBoot):
		err = l.create(path, boot, now)
	case errors.Is(err, errDamaged):
		// Kept for whoever wants to know what happened to it.
		if err = os.Rename(path, path+".damaged"); err == nil {
			l.lost = true
			err = l.create(path, boot, now)
		}
	}
	if err == nil {
		err = lock.Truncate(0)
	}
	if err == nil {
		_, err = lock.WriteAt([]byte(boot), 0)
	}
	if err != nil {
		l.close()
		return nil, ledgerError(path, err)
	}
	return l, nil
}

// ledgerError says which ledger cannot be used, and what would help.
func ledgerError(path string, err error) error {
	return fmt.Errorf("agent: the ledger %s cannot be used: %w: name a file, best on tmpfs, in a folder in which the agent may write", path, err)
}

var errOtherBoot = errors.New("from another boot")

func (l *ledger) load(path, boot string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if st.Size() != ledgerSize {
		return fmt.Errorf("%w: %d bytes instead of %d", errDamaged, st.Size(), ledgerSize)
	}
	// A hole would be a fatal fault at the first store into a full tmpfs.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, ledgerSize); err != nil {
		return err
	}
	l.mem, err = unix.Mmap(int(f.Fd()), 0, ledgerSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	h := l.mem[:64]
	if v := binary.NativeEndian.Uint64(h[8:]); binary.NativeEndian.Uint64(h) != ledgerMagic || v != ledgerVersion {
		return l.unmap(fmt.Errorf("%w: version %d; this agent reads %d", errDamaged, v, ledgerVersion))
	}
	if binary.NativeEndian.Uint64(h[48:]) != headerCheck(h) {
		return l.unmap(fmt.Errorf("%w: header", errDamaged))
	}
	if !bytes.Equal(h[32:48], bootBytes(boot)) {
		return l.unmap(errOtherBoot)
	}
	if err := l.verify(); err != nil {
		return l.unmap(err)
	}
	l.id = hex.EncodeToString(h[16:32])
	return nil
}

func (l *ledger) unmap(why error) error {
	unix.Munmap(l.mem)
	l.mem = nil
	return why
}

// create makes an empty ledger aside and puts it in place.
func (l *ledger) create(path, boot string, now time.Duration) error {
	tmp := path + ".new"
	os.Remove(tmp)
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, ledgerSize); err != nil {
		return fmt.Errorf("allocating %d bytes: %w", ledgerSize, err)
	}
	l.mem, err = unix.Mmap(int(f.Fd()), 0, ledgerSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	h := l.mem[:64]
	binary.NativeEndian.PutUint64(h[0:], ledgerMagic)
	binary.NativeEndian.PutUint64(h[8:], ledgerVersion)
	rand.Read(h[16:32])
	copy(h[32:48], bootBytes(boot))
	binary.NativeEndian.PutUint64(h[48:], headerCheck(h))
	l.id = hex.EncodeToString(h[16:32])
	if err := l.verify(); err != nil {
		return err
	}
	if l.lost {
		l.setRecovery(now + recovering)
	}
	return os.Rename(tmp, path)
}

func headerCheck(h []byte) uint64 {
	var w [6]uint64
	for i := range w {
		w[i] = binary.NativeEndian.Uint64(h[i*8:])
	}
	return check(w[:]...)
}

func bootBytes(boot string) []byte {
	b, _ := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(boot), "-", ""))
	return append(b, make([]byte, 16)...)[:16]
}

// verify reads everything once: it fills the free lists and finds damage.
func (l *ledger) verify() error {
	l.free = freeLists{entries: make([]int, 0, maxEntries)}
	for i := maxProcesses - 1; i >= 0; i-- {
		if _, ok := l.process(i); !ok {
			l.free.processes = append(l.free.processes, i)
		}
	}
	for i := maxLimits - 1; i >= 0; i-- {
		if _, _, ok := l.limit(i); !ok {
			l.free.limits = append(l.free.limits, i)
		}
	}
	next := 0
	for i := range l.used() {
		for ; next < i; next++ {
			l.free.entries = append(l.free.entries, next)
		}
		next = i + 1
		e, ok := l.entry(i)
		if !ok {
			return fmt.Errorf("%w: entry %d", errDamaged, i)
		}
		if _, ok := l.process(e.process); !ok {
			return fmt.Errorf("%w: entry %d names no process", errDamaged, i)
		}
		if _, _, ok := l.limit(e.limit); !ok {
			return fmt.Errorf("%w: entry %d names no limit", errDamaged, i)
		}
	}
	for ; next < maxEntries; next++ {
		l.free.entries = append(l.free.entries, next)
	}
	slices.Reverse(l.free.entries) // the first ones first: the used part stays small
	return nil
}

// close lets go of the memory and the lock; the file stays, for the next
// agent.
func (l *ledger) close() {
	if l.mem != nil {
		unix.Munmap(l.mem)
		l.mem = nil
	}
	l.lock.Close()
}
