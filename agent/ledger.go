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
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/wire"
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
		return nil, fmt.Errorf("agent: the ledger's folder: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent: the ledger's lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("agent: the ledger %s is in use by another agent: stop that one, or give this one its own --ledger", path)
	}
	l := &ledger{lock: lock}
	err = l.load(path, boot)
	switch {
	case err == nil:
		l.lost = l.recovery() > 0
	case errors.Is(err, os.ErrNotExist):
		before, _ := os.ReadFile(path + ".lock")
		l.lost = string(before) == boot
		err = l.create(path, boot)
	case errors.Is(err, errOtherBoot):
		err = l.create(path, boot)
	case errors.Is(err, errDamaged):
		// Kept for whoever wants to know what happened to it.
		if err = os.Rename(path, path+".damaged"); err == nil {
			l.lost = true
			err = l.create(path, boot)
		}
	}
	if err == nil && l.lost {
		l.setRecovery(now + recovering)
	}
	if err == nil {
		err = lock.Truncate(0)
	}
	if err == nil {
		_, err = lock.WriteAt([]byte(boot), 0)
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("agent: the ledger %s: %w", path, err)
	}
	return l, nil
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
func (l *ledger) create(path, boot string) error {
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
	l.free = freeLists{}
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
	for i := maxEntries - 1; i >= 0; i-- {
		key := l.word(entriesAt + i*16).Load()
		if key == 0 {
			l.free.entries = append(l.free.entries, i)
			continue
		}
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
	return nil
}

// process returns slot i.
func (l *ledger) process(i int) (identity, bool) {
	at := processesAt + i*64
	id := identity{
		pid: int(l.word(at + 8).Load()), uid: int(l.word(at + 16).Load()),
		start: l.word(at + 24).Load(), ino: l.word(at + 32).Load(),
	}
	return id, l.word(at).Load() == id.check()
}

func (id identity) check() uint64 {
	return check(uint64(id.pid), uint64(id.uid), id.start, id.ino)
}

func (l *ledger) addProcess(id identity) (int, error) {
	n := len(l.free.processes)
	if n == 0 {
		return 0, errFull
	}
	i := l.free.processes[n-1]
	l.free.processes = l.free.processes[:n-1]
	at := processesAt + i*64
	l.store(at+8, uint64(id.pid))
	l.store(at+16, uint64(id.uid))
	l.store(at+24, id.start)
	l.store(at+32, id.ino)
	l.store(at, id.check())
	return i, nil
}

func (l *ledger) freeProcess(i int) {
	l.store(processesAt+i*64, 0)
	l.free.processes = append(l.free.processes, i)
}

// limit returns slot i.
func (l *ledger) limit(i int) (name string, kind wire.Kind, ok bool) {
	at := limitsAt + i*128
	text := l.mem[at+16 : at+16+104]
	if l.word(at).Load() != textCheck(text) {
		return "", "", false
	}
	k, n, _ := strings.Cut(strings.TrimRight(string(text), "\x00"), " ")
	return n, wire.Kind(k), n != ""
}

func textCheck(text []byte) uint64 {
	var w [13]uint64
	for i := range w {
		w[i] = binary.NativeEndian.Uint64(text[i*8:])
	}
	return check(w[:]...)
}

func (l *ledger) addLimit(name string, kind wire.Kind) (int, error) {
	n := len(l.free.limits)
	text := string(kind) + " " + name
	if n == 0 || len(text) > 104 {
		return 0, errFull
	}
	i := l.free.limits[n-1]
	l.free.limits = l.free.limits[:n-1]
	at := limitsAt + i*128
	slot := l.mem[at+16 : at+16+104]
	clear(slot)
	copy(slot, text)
	l.store(at+8, 0)
	l.store(at+120, 0)
	l.store(at, textCheck(slot))
	return i, nil
}

func (l *ledger) freeLimit(i int) {
	l.store(limitsAt+i*128, 0)
	l.free.limits = append(l.free.limits, i)
}

// state is a limit's one word beside its entries.
func (l *ledger) state(limit int) uint64 { return l.word(limitsAt + limit*128 + 8).Load() }

func (l *ledger) setState(limit int, v uint64) { l.store(limitsAt+limit*128+8, v) }

// recovery is when the processes of a lost ledger have had their time, since
// boot; zero: none was lost, or they have had it.
func (l *ledger) recovery() time.Duration { return time.Duration(l.word(56).Load()) }

func (l *ledger) setRecovery(until time.Duration) { l.store(56, uint64(until)) }

// every is the time between tokens that the state was counted with.
func (l *ledger) every(limit int) time.Duration {
	return time.Duration(l.word(limitsAt + limit*128 + 120).Load())
}

func (l *ledger) setEvery(limit int, d time.Duration) {
	l.store(limitsAt+limit*128+120, uint64(d))
}

const tatUnit = 16 * time.Nanosecond

// tat is the theoretical arrival time of a rate (GCRA), since boot.
func (l *ledger) tat(limit int) time.Duration {
	return time.Duration(l.state(limit)) * tatUnit
}

// setTAT rounds up: towards fewer calls.
func (l *ledger) setTAT(limit int, t time.Duration) {
	l.setState(limit, uint64((max(t, 0)+tatUnit-1)/tatUnit))
}

// level is what a retry budget has that is not out in cells.
func (l *ledger) level(limit int) int       { return int(l.state(limit)) }
func (l *ledger) setLevel(limit, level int) { l.setState(limit, uint64(level)) }

// entry is what one process has of one limit, in one cell.
type entry struct {
	process, limit, cell int
	epoch                uint16
	granted              int
}

func (e entry) key() uint64 {
	return uint64(e.epoch)<<48 | uint64(e.limit)<<32 | uint64(e.process)<<16 | uint64(e.cell)<<1 | 1
}

func (e entry) value() uint64 {
	return uint64(e.granted)<<40 | check(e.key(), uint64(e.granted))>>24
}

func (l *ledger) entry(i int) (entry, bool) {
	at := entriesAt + i*16
	key, value := l.word(at).Load(), l.word(at+8).Load()
	e := entry{
		epoch: uint16(key >> 48), limit: int(key >> 32 & 0xffff), process: int(key >> 16 & 0xffff),
		cell: int(key >> 1 & 0x7fff), granted: int(value >> 40),
	}
	ok := key&1 == 1 && value == e.value() && e.process < maxProcesses && e.limit < maxLimits
	return e, ok
}

func (l *ledger) addEntry(e entry) (int, error) {
	n := len(l.free.entries)
	if n == 0 {
		return 0, errFull
	}
	i := l.free.entries[n-1]
	l.free.entries = l.free.entries[:n-1]
	at := entriesAt + i*16
	l.store(at+8, e.value())
	l.store(at, e.key())
	return i, nil
}

// setEntry changes what was granted, in one store.
func (l *ledger) setEntry(i int, e entry) { l.store(entriesAt+i*16+8, e.value()) }

func (l *ledger) freeEntry(i int) {
	l.store(entriesAt+i*16, 0)
	l.free.entries = append(l.free.entries, i)
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
