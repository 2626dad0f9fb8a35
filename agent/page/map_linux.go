package page

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	mfdNoexecSeal = 0x8 // MFD_NOEXEC_SEAL, Linux 6.3
	needSeals     = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
)

// memfd makes an anonymous file of Size, no-exec where the kernel knows how.
func memfd(name string) (*os.File, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|mfdNoexecSeal)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: memfd_create: %w", ErrUnsupported, err)
	}
	f := os.NewFile(uintptr(fd), name)
	// Allocated now: a store must not meet a full memory later.
	if err := unix.Fallocate(fd, 0, 0, Size); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: allocating %d bytes: %w", ErrUnsupported, Size, err)
	}
	return f, nil
}

// New makes a process's page and the file to pass to the agent, which the
// caller keeps for reconnects and closes. The memory is unmapped when the
// Page is no longer reachable.
func New() (*Page, *os.File, error) {
	f, err := memfd("resagent-page")
	if err != nil {
		return nil, nil, err
	}
	p, err := mapPage(f, needSeals)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	h := words(p.mem)
	h.magic.Store(pageMagic)
	h.version.Store(Version)
	runtime.AddCleanup(p, func(mem []byte) { unix.Munmap(mem) }, p.mem)
	return p, f, nil
}

func mapPage(f *os.File, seal int) (*Page, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("page: fstat: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("page: mmap: %w", err)
	}
	if seal != 0 {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seal); err != nil {
			unix.Munmap(mem)
			return nil, fmt.Errorf("page: sealing: %w", err)
		}
	}
	return &Page{mem: mem, ino: st.Ino}, nil
}

// check says whether a file from elsewhere can be mapped without risk: an
// anonymous memory file of the right size that nobody can shrink, and not of
// huge pages, which can be missing at the first touch.
func check(f *os.File, seals int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("page: fstat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != Size {
		return fmt.Errorf("page: the descriptor is not a memory file of %d bytes", Size)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return fmt.Errorf("page: fstatfs: %w", err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("page: the descriptor is not a plain memory file (file system %#x)", fs.Type)
	}
	got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("page: the descriptor has no seals: %w", err)
	}
	if got&seals != seals || got&unix.F_SEAL_WRITE != 0 {
		return fmt.Errorf("page: seals %#x, want at least %#x and not F_SEAL_WRITE", got, seals)
	}
	return nil
}

// Map maps a page that a process passed, after checking that it cannot hurt.
// The caller still owns f, and calls Close when the page is done with.
func Map(f *os.File) (*Page, error) {
	if err := check(f, needSeals); err != nil {
		return nil, err
	}
	p, err := mapPage(f, 0)
	if err != nil {
		return nil, err
	}
	h := words(p.mem)
	if m, v := h.magic.Load(), h.version.Load(); m != pageMagic || v != Version {
		p.Close()
		return nil, fmt.Errorf("page: layout %d (magic %#x), this agent reads layout %d", v, m, Version)
	}
	return p, nil
}

// Close unmaps a page from [Map]. No cell of it may be used any more.
func (p *Page) Close() error {
	mem := p.mem
	p.mem = nil
	if mem == nil {
		return nil
	}
	return unix.Munmap(mem)
}

// NewControl makes the agent's control page, and the file to pass to every
// process, which can map it for reading only.
func NewControl() (*Control, *os.File, error) {
	f, err := memfd("resagent-control")
	if err != nil {
		return nil, nil, err
	}
	// Mapped first: F_SEAL_FUTURE_WRITE leaves this one mapping writable.
	mem, err := unix.Mmap(int(f.Fd()), 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, needSeals|unix.F_SEAL_FUTURE_WRITE)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("page: control page: %w", err)
	}
	c := &Control{mem: mem}
	c.words().magic.Store(controlMagic)
	c.words().version.Store(Version)
	runtime.AddCleanup(c, func(mem []byte) { unix.Munmap(mem) }, mem)
	return c, f, nil
}

// MapControl maps the agent's control page for reading. It is unmapped when
// it is no longer reachable.
func MapControl(f *os.File) (*Control, error) {
	if err := check(f, needSeals|unix.F_SEAL_FUTURE_WRITE); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, Size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("page: mmap: %w", err)
	}
	c := &Control{mem: mem}
	runtime.AddCleanup(c, func(mem []byte) { unix.Munmap(mem) }, mem)
	if m, v := c.words().magic.Load(), c.words().version.Load(); m != controlMagic || v != Version {
		return nil, fmt.Errorf("page: control layout %d (magic %#x), this library reads layout %d", v, m, Version)
	}
	return c, nil
}
