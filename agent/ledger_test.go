//go:build linux

package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

const (
	boot1 = "11111111-2222-3333-4444-555555555555"
	boot2 = "99999999-2222-3333-4444-555555555555"
)

func ledgerAt(t testing.TB, path, boot string) *ledger {
	t.Helper()
	l, err := openLedger(path, boot, time.Second)
	if err != nil {
		t.Fatalf("openLedger: %v", err)
	}
	return l
}

// filled writes a ledger with something of everything in it.
func filled(t testing.TB, path string) {
	t.Helper()
	l := ledgerAt(t, path, boot1)
	p, err := l.addProcess(identity{pid: 7, uid: 8, start: 9, ino: 10})
	if err != nil {
		t.Fatal(err)
	}
	for i, kind := range kinds {
		n, err := l.addLimit("u", kind)
		if err != nil {
			t.Fatal(err)
		}
		l.setEvery(n, time.Millisecond)
		l.setTAT(n, time.Second)
		if _, err := l.addEntry(entry{process: p, limit: n, cell: i, epoch: 3, granted: 4 + i}); err != nil {
			t.Fatal(err)
		}
	}
	l.close()
}

// contents is all that a ledger says, as text.
func contents(l *ledger) string {
	var b strings.Builder
	for i := range maxProcesses {
		if id, ok := l.process(i); ok {
			fmt.Fprintf(&b, "process %d %+v\n", i, id)
		}
	}
	for i := range maxLimits {
		if name, kind, ok := l.limit(i); ok {
			fmt.Fprintf(&b, "limit %d %s %s\n", i, kind, name)
		}
	}
	for i := range l.used() {
		e, ok := l.entry(i)
		fmt.Fprintf(&b, "entry %d %+v %v\n", i, e, ok)
	}
	return b.String()
}

func TestLedgerIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "ledger")
	l := ledgerAt(t, path, boot1)
	if l.lost || len(l.id) != 32 || contents(l) != "" {
		t.Errorf("a first ledger: lost %v, id %q, %s", l.lost, l.id, contents(l))
	}
	id := l.id
	l.close()
	filled(t, path)
	again := ledgerAt(t, path, boot1)
	defer again.close()
	want := "process 0 {pid:7 uid:8 start:9 ino:10}\nlimit 0 bulkhead u\nlimit 1 rate_limit u\nlimit 2 retry_budget u\n" +
		"entry 0 {process:0 limit:0 cell:0 epoch:3 granted:4} true\nentry 1 {process:0 limit:1 cell:1 epoch:3 granted:5} true\nentry 2 {process:0 limit:2 cell:2 epoch:3 granted:6} true\n"
	if got := contents(again); again.id != id || again.lost || got != want {
		t.Errorf("reopened: id %s for %s, lost %v, %s; want %s", again.id, id, again.lost, got, want)
	}
	if again.tat(1) != time.Second || again.every(1) != time.Millisecond {
		t.Errorf("reopened: tat %v, every %v", again.tat(1), again.every(1))
	}
	if free := again.free; len(free.processes) != maxProcesses-1 || len(free.limits) != maxLimits-3 || len(free.entries) != maxEntries-3 {
		t.Errorf("room for %d, %d, %d", len(free.processes), len(free.limits), len(free.entries))
	}
}

func TestLedgerHasOneAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := ledgerAt(t, path, boot1)
	if _, err := openLedger(path, boot1, 0); err == nil || !strings.Contains(err.Error(), "in use by another agent") {
		t.Errorf("a second agent: %v, want that it is in use", err)
	}
	l.close()
	ledgerAt(t, path, boot1).close()
}

// A ledger of this boot that is gone, cut or spoilt is lost; it is put aside.
// One of another boot is nothing: its holders are gone too.
func TestLedgerLost(t *testing.T) {
	for name, one := range map[string]struct {
		spoil   func(path string) error
		boot    string
		lost    bool
		damaged bool
	}{
		"another boot":       {func(string) error { return nil }, boot2, false, false},
		"removed":            {os.Remove, boot1, true, false},
		"removed, and boot":  {os.Remove, boot2, false, false},
		"emptied":            {func(p string) error { return os.Truncate(p, 0) }, boot1, true, true},
		"cut":                {func(p string) error { return os.Truncate(p, ledgerSize-1) }, boot1, true, true},
		"grown":              {func(p string) error { return os.Truncate(p, ledgerSize+1) }, boot1, true, true},
		"text":               {func(p string) error { return os.WriteFile(p, []byte("hello"), 0o600) }, boot1, true, true},
		"all zero":           {func(p string) error { return os.WriteFile(p, make([]byte, ledgerSize), 0o600) }, boot1, true, true},
		"all ones":           {func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte{0xff}, ledgerSize), 0o600) }, boot1, true, true},
		"newer version":      {newer, boot1, true, true},
		"newer, and a boot":  {newer, boot2, true, true},
		"zero from the slot": {func(p string) error { return overwrite(p, processesAt, make([]byte, 64)) }, boot1, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger")
			filled(t, path)
			if err := one.spoil(path); err != nil {
				t.Fatal(err)
			}
			l := ledgerAt(t, path, one.boot)
			defer l.close()
			if l.lost != one.lost || contents(l) != "" {
				t.Errorf("lost %v, contents %q; want lost %v and none", l.lost, contents(l), one.lost)
			}
			if _, err := os.Stat(path + ".damaged"); (err == nil) != one.damaged {
				t.Errorf("put aside: %v, want %v", err, one.damaged)
			}
		})
	}
}

func newer(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	binary.NativeEndian.PutUint64(text[8:], ledgerVersion+1)
	binary.NativeEndian.PutUint64(text[48:], headerCheck(text[:64]))
	return os.WriteFile(path, text, 0o600)
}

func overwrite(path string, at int64, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(text, at)
	return err
}

// What is no damage is no reason to throw a ledger away.
func TestLedgerCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"a directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"a link":      func(p string) error { return os.Symlink("/nowhere", p) },
	} {
		path := filepath.Join(dir, name, "ledger")
		os.Mkdir(filepath.Dir(path), 0o700)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if l, err := openLedger(path, boot1, 0); err == nil {
			l.close()
			t.Errorf("%s was taken for a ledger", name)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s was moved away: %v", name, err)
		}
	}
}

// An agent that is killed before the processes of a lost ledger have come back
// leaves it lost.
func TestLostUntilLivedThrough(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	filled(t, path)
	os.Remove(path)
	for range 3 {
		l := ledgerAt(t, path, boot1)
		if !l.lost || l.recovery() != time.Second+recovering {
			t.Errorf("lost %v, until %v; want lost, for the time from now", l.lost, l.recovery())
		}
		l.close()
	}
	l := ledgerAt(t, path, boot1)
	a := &allocator{ledger: l, recoverUntil: l.recovery()}
	a.recovered(l.recovery() - 1)
	if l.recovery() == 0 {
		t.Error("over before its time")
	}
	a.recovered(l.recovery())
	l.close()
	l = ledgerAt(t, path, boot1)
	defer l.close()
	if l.lost {
		t.Error("lost for ever")
	}
}

// Any one byte changed, in all parts that say something: found, or harmless;
// never a panic, and never another count.
func TestEveryByteDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger")
	filled(t, path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	book := &ledger{mem: newMemory()}
	copy(book.mem, good)
	whole := contents(book)
	var places []int
	for _, part := range []struct{ at, n int }{{0, 64}, {processesAt, 128}, {limitsAt, 128}, {entriesAt, 64}, {ledgerSize - 16, 16}} {
		for i := range part.n {
			places = append(places, part.at+i)
		}
	}
	for _, at := range places {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			copy(book.mem, good)
			book.mem[at] ^= flip
			header := book.mem[:64]
			if headerCheck(header) != binary.NativeEndian.Uint64(header[48:]) || binary.NativeEndian.Uint64(header) != ledgerMagic {
				continue // found
			}
			if err := book.verify(); err != nil {
				if !errors.Is(err, errDamaged) {
					t.Errorf("byte %d: %v", at, err)
				}
				continue
			}
			if got := contents(book); got != whole {
				t.Errorf("byte %d with %#x: the ledger says\n%s and not\n%s", at, flip, got, whole)
			}
			w := &world{mem: book.mem, now: time.Hour, set: policy(5, 100, 5, 20), kept: map[cellID]int{}, buried: map[*process]time.Duration{}}
			w.boot()
			w.pass(settle)
		}
	}
}

func TestLedgerFull(t *testing.T) {
	l := &ledger{mem: newMemory()}
	if err := l.verify(); err != nil {
		t.Fatal(err)
	}
	for i := range maxProcesses {
		if n, err := l.addProcess(identity{pid: i}); err != nil || n != i {
			t.Fatalf("process %d: slot %d, %v", i, n, err)
		}
	}
	for i := range maxLimits {
		if n, err := l.addLimit(fmt.Sprint(i), wire.Bulkhead); err != nil || n != i {
			t.Fatalf("limit %d: slot %d, %v", i, n, err)
		}
	}
	for i := range maxEntries {
		if n, err := l.addEntry(entry{process: i % maxProcesses, limit: i / 16, cell: i % 512, epoch: 1}); err != nil || n != i {
			t.Fatalf("entry %d: slot %d, %v", i, n, err)
		}
	}
	_, err1 := l.addProcess(identity{})
	_, err2 := l.addLimit("x", wire.Bulkhead)
	_, err3 := l.addEntry(entry{})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, errFull) {
			t.Errorf("beyond the room there is: %v, want %v", err, errFull)
		}
	}
	again := &ledger{mem: l.mem}
	if err := again.verify(); err != nil || len(again.free.processes)+len(again.free.limits)+len(again.free.entries) > 0 {
		t.Errorf("a full ledger read again: %v, %d free", err, len(again.free.entries))
	}
	l.freeEntry(17)
	l.freeLimit(4)
	l.freeProcess(5)
	a, _ := l.addEntry(entry{})
	b, _ := l.addLimit("y", wire.RateLimit)
	c, _ := l.addProcess(identity{})
	if a != 17 || b != 4 || c != 5 {
		t.Errorf("what was freed is given as %d, %d, %d; want 17, 4, 5", a, b, c)
	}
}

func TestLimitNames(t *testing.T) {
	l := &ledger{mem: newMemory()}
	if err := l.verify(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 64} { // what a policy may be called
		name := strings.Repeat("x", n)
		for _, kind := range kinds {
			i, err := l.addLimit(name, kind)
			if err != nil {
				t.Fatalf("a name of %d: %v", n, err)
			}
			if gotName, gotKind, ok := l.limit(i); gotName != name || gotKind != kind || !ok {
				t.Errorf("%s of %d letters is read as %s %q", kind, n, gotKind, gotName)
			}
		}
	}
	if _, err := l.addLimit(strings.Repeat("x", 200), wire.Bulkhead); !errors.Is(err, errFull) {
		t.Errorf("a name of 200: %v", err)
	}
}

// FuzzLedger overwrites a ledger anywhere: reading it never panics, and an
// agent works with whatever passes.
func FuzzLedger(f *testing.F) {
	path := filepath.Join(f.TempDir(), "ledger")
	filled(f, path)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(entriesAt), []byte{1, 2, 3})
	f.Add(uint32(processesAt), make([]byte, 64))
	f.Add(uint32(limitsAt+8), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	book := &ledger{mem: newMemory()}
	f.Fuzz(func(t *testing.T, at uint32, text []byte) {
		copy(book.mem, good)
		copy(book.mem[at%ledgerSize:], text)
		if book.verify() != nil {
			return
		}
		w := &world{mem: book.mem, now: time.Hour, set: policy(5, 100, 5, 20), kept: map[cellID]int{}, buried: map[*process]time.Duration{}}
		w.boot()
		w.pass(settle)
		if err := w.checkEnd(); err != nil {
			t.Fatal(err)
		}
	})
}
