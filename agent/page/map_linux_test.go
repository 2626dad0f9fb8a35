package page

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// made is a memory file as a peer might pass it.
func made(t *testing.T, size int64, flags, seals int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|flags)
	if err != nil {
		t.Fatalf("memfd_create: %v", err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatalf("truncate to %d: %v", size, err)
	}
	if seals != 0 {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
			t.Fatalf("seals %#x: %v", seals, err)
		}
	}
	return f
}

func twoSides(t *testing.T) (process, agent *Page, f *os.File) {
	t.Helper()
	process, f, err := New()
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	if agent, err = Map(f); err != nil {
		t.Fatalf("Map: %v", err)
	}
	t.Cleanup(func() { agent.Close() })
	return process, agent, f
}

func TestBothSidesSeeOneMemory(t *testing.T) {
	process, agent, _ := twoSides(t)
	if process.Inode() == 0 || process.Inode() != agent.Inode() {
		t.Errorf("inodes %d and %d, want one for both", process.Inode(), agent.Inode())
	}
	for _, i := range []int{0, 1, Cells - 1} {
		agent.Cell(i).Open(3)
		agent.Cell(i).SetTarget(3, 2)
		agent.Cell(i).Grant(3, 2)
		if !process.Cell(i).Acquire(3, 1) {
			t.Errorf("cell %d: the process finds nothing of what the agent granted", i)
		}
		if w := agent.Cell(i).Read(); w != (Word{3, 1, 1}) {
			t.Errorf("cell %d: the agent reads %+v, want one available and one in use", i, w)
		}
	}
}

func TestTwoPagesAreTwo(t *testing.T) {
	a, _, _ := twoSides(t)
	b, _, _ := twoSides(t)
	if a.Inode() == b.Inode() {
		t.Errorf("two pages have one inode, %d", a.Inode())
	}
}

// A page is sealed as it is made: nobody can pull it out from under the other
// side, nor open it up again.
func TestPageIsSealed(t *testing.T) {
	_, _, f := twoSides(t)
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("shrinking: %v, want EPERM", err)
	}
	if err := f.Truncate(2 * Size); !errors.Is(err, unix.EPERM) {
		t.Errorf("growing: %v, want EPERM", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); !errors.Is(err, unix.EPERM) {
		t.Errorf("a further seal: %v, want EPERM", err)
	}
}

// What a peer passes instead of a page is refused before it is touched.
func TestMapRefuses(t *testing.T) {
	const good = needSeals
	regular, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer regular.Close()
	if err := regular.Truncate(Size); err != nil {
		t.Fatal(err)
	}
	pipe, writing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer writing.Close()
	directory, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	page, file, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	readOnly, err := os.Open("/proc/self/fd/" + itoa(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	for name, one := range map[string]struct {
		f    *os.File
		want string
	}{
		"empty":             {made(t, 0, unix.MFD_ALLOW_SEALING, good), "not a memory file of"},
		"too small":         {made(t, Size-1, unix.MFD_ALLOW_SEALING, good), "not a memory file of"},
		"too large":         {made(t, Size+4096, unix.MFD_ALLOW_SEALING, good), "not a memory file of"},
		"not sealed":        {made(t, Size, unix.MFD_ALLOW_SEALING, 0), "seals"},
		"may shrink":        {made(t, Size, unix.MFD_ALLOW_SEALING, good&^unix.F_SEAL_SHRINK), "seals"},
		"may grow":          {made(t, Size, unix.MFD_ALLOW_SEALING, good&^unix.F_SEAL_GROW), "seals"},
		"may be sealed":     {made(t, Size, unix.MFD_ALLOW_SEALING, good&^unix.F_SEAL_SEAL), "seals"},
		"cannot be sealed":  {made(t, Size, 0, 0), "seals"},
		"write-sealed":      {made(t, Size, unix.MFD_ALLOW_SEALING, good|unix.F_SEAL_WRITE), "F_SEAL_WRITE"},
		"future writes":     {made(t, Size, unix.MFD_ALLOW_SEALING, good|unix.F_SEAL_FUTURE_WRITE), "mmap"},
		"no page":           {made(t, Size, unix.MFD_ALLOW_SEALING, good), "layout 0"},
		"a file on disk":    {regular, "page: "},
		"a pipe":            {pipe, "not a memory file"},
		"a directory":       {directory, "not a memory file"},
		"a device":          {null, "not a memory file"},
		"opened to be read": {readOnly, "mmap"},
	} {
		p, err := Map(one.f)
		if err == nil || !strings.Contains(err.Error(), one.want) || !strings.HasPrefix(err.Error(), "page: ") {
			t.Errorf("%s: error %v, want one of the package that says %q", name, err, one.want)
		}
		if p != nil {
			p.Close()
		}
	}
	page.Cell(0).Open(1) // still there
}

func itoa(n uintptr) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// Huge pages accept the seals, but may be missing at the first touch.
func TestMapRefusesHugePages(t *testing.T) {
	const huge = 2 << 20
	fd, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_HUGETLB)
	if err != nil {
		// The kernel has none to make a file of: nobody can pass one either.
		t.Logf("no huge-page file can be made here: %v", err)
		return
	}
	f := os.NewFile(uintptr(fd), "huge")
	defer f.Close()
	for _, size := range []int64{0, Size, huge} {
		f.Truncate(size)
		if p, err := Map(f); err == nil {
			p.Close()
			t.Errorf("a huge-page file (asked for %d bytes) was mapped", size)
		}
	}
	unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, needSeals)
	if err := check(f, needSeals); err == nil {
		t.Error("a sealed huge-page file passes the check")
	}
}

// A peer can punch holes into its page while the agent uses it: the agent
// reads zeros, which is a closed cell, and lives.
func TestPunchedHoleIsAClosedCell(t *testing.T) {
	process, agent, f := twoSides(t)
	for i := range Cells {
		agent.Cell(i).Open(1)
		agent.Cell(i).Grant(1, 1)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, Size); err != nil {
		t.Fatalf("punching: %v", err)
	}
	for i := range Cells {
		c := agent.Cell(i)
		if w := c.Read(); w != (Word{}) {
			t.Fatalf("cell %d reads %+v after the hole, want a closed cell", i, w)
		}
		if c.Grant(1, 1) || c.Seize(1, 1) != 0 || process.Cell(i).Acquire(1, 1) {
			t.Fatalf("cell %d is used after the hole", i)
		}
		c.Open(2) // a store into the hole gets memory again
		if !c.Grant(2, 1) {
			t.Fatalf("cell %d cannot be opened again after the hole", i)
		}
	}
}

// Damage to the head of a page is found when it is mapped.
func TestMapRefusesAnotherLayout(t *testing.T) {
	for name, damage := range map[string]func(*header){
		"newer version": func(h *header) { h.version.Store(Version + 1) },
		"other magic":   func(h *header) { h.magic.Store(controlMagic) },
	} {
		p, f, err := New()
		if err != nil {
			t.Fatal(err)
		}
		damage(words(p.mem))
		if q, err := Map(f); err == nil || !strings.Contains(err.Error(), "this agent reads layout 1") {
			t.Errorf("%s: %v and %v, want an error that says what is read", name, q, err)
		}
		f.Close()
	}
}

func TestClosingTwiceIsHarmless(t *testing.T) {
	_, agent, _ := twoSides(t)
	for range 2 {
		if err := agent.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// The control page is the agent's to write, and nobody else's: not through
// the mapping that the client makes, nor through the descriptor it was passed.
func TestControlPageIsReadOnlyForOthers(t *testing.T) {
	agent, f, err := NewControl()
	if err != nil {
		t.Fatalf("NewControl: %v", err)
	}
	defer f.Close()
	client, err := MapControl(f)
	if err != nil {
		t.Fatalf("MapControl: %v", err)
	}
	agent.Beat()
	agent.Beat()
	agent.SetGeneration(9)
	if client.Heartbeat() != 2 || client.Generation() != 9 {
		t.Errorf("the client reads beat %d and generation %d, want 2 and 9", client.Heartbeat(), client.Generation())
	}
	if err := unix.Mprotect(client.mem, unix.PROT_READ|unix.PROT_WRITE); !errors.Is(err, unix.EACCES) {
		t.Errorf("mprotect of the client's mapping: %v, want EACCES", err)
	}
	if mem, err := unix.Mmap(int(f.Fd()), 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		unix.Munmap(mem)
		t.Error("the descriptor can be mapped for writing")
	}
	if _, err := f.WriteAt([]byte{1}, 16); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to the descriptor: %v, want EPERM", err)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, Size); !errors.Is(err, unix.EPERM) {
		t.Errorf("punching a hole: %v, want EPERM", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("shrinking: %v, want EPERM", err)
	}
	if again, err := os.OpenFile("/proc/self/fd/"+itoa(f.Fd()), os.O_RDWR, 0); err == nil {
		if _, err := again.WriteAt([]byte{1}, 16); err == nil {
			t.Error("the control page can be opened anew and written")
		}
		again.Close()
	}
	if !faults(func() { *(*byte)(unsafe.Pointer(&client.mem[16])) = 7 }) {
		t.Error("a store through the client's mapping went through")
	}
	agent.Beat()
	if client.Heartbeat() != 3 {
		t.Errorf("beat %d after all that, want 3", client.Heartbeat())
	}
}

// faults reports whether f's store is refused by the memory.
func faults(f func()) (refused bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { refused = recover() != nil }()
	f()
	return
}

func TestMapControlRefuses(t *testing.T) {
	_, page, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	for name, one := range map[string]struct {
		f    *os.File
		want string
	}{
		"a process's page":      {page, "seals"},
		"without F_SEAL_FUTURE": {made(t, Size, unix.MFD_ALLOW_SEALING, needSeals), "seals"},
		"another layout":        {made(t, Size, unix.MFD_ALLOW_SEALING, needSeals|unix.F_SEAL_FUTURE_WRITE), "this library reads layout 1"},
		"too small":             {made(t, 4096, unix.MFD_ALLOW_SEALING, needSeals|unix.F_SEAL_FUTURE_WRITE), "not a memory file"},
	} {
		if c, err := MapControl(one.f); err == nil || c != nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v and %v, want an error that says %q", name, c, err, one.want)
		}
	}
}
