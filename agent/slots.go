//go:build linux

package agent

import (
	"bytes"
	"encoding/binary"
	"iter"
	"strings"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// process returns slot i.
func (l *ledger) process(i int) (identity, bool) {
	at := processesAt + i*64
	if l.word(at).Load() == 0 {
		return identity{}, false
	}
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
	if sum := l.word(at).Load(); sum == 0 || sum != textCheck(text) {
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

// used yields the entries that say something.
func (l *ledger) used() iter.Seq[int] {
	const block = 256 // entries; mostly there is nothing in them
	var blank [block * 16]byte
	return func(yield func(int) bool) {
		for first := 0; first < maxEntries; first += block {
			if at := entriesAt + first*16; bytes.Equal(l.mem[at:at+len(blank)], blank[:]) {
				continue
			}
			for i := first; i < first+block; i++ {
				if l.word(entriesAt+i*16).Load() != 0 && !yield(i) {
					return
				}
			}
		}
	}
}
