package page

import (
	"errors"
	"sync/atomic"
	"unsafe"
)

const (
	// Size of a page, and of a control page, in bytes.
	Size = 64 << 10
	// Cells is the number of limit cells of a page.
	Cells = 512
	// Version of the layout.
	Version = 1

	pageMagic    = 0x3145_4741_5047_5352 // "RSGPAGE1"
	controlMagic = 0x314c_5254_4347_5352 // "RSGCTRL1"
	firstCell    = 1024
)

// ErrUnsupported: this system, or this sandbox, has no memory to share.
var ErrUnsupported = errors.New("page: no sharable memory on this system")

type header struct {
	magic, version atomic.Uint64
}

func words(mem []byte) *header { return (*header)(unsafe.Pointer(unsafe.SliceData(mem))) }

// Page is a mapped page. Its cells stay valid as long as the Page is
// reachable (a process's own, from [New]) or until Close (the agent's, from
// [Map]). Safe for concurrent use.
type Page struct {
	mem []byte
	ino uint64
}

// Inode is the page's identity among those of the host, as the kernel says it.
func (p *Page) Inode() uint64 { return p.ino }

// Cell returns limit cell i, 0 <= i < [Cells].
func (p *Page) Cell(i int) *Cell {
	return (*Cell)(unsafe.Pointer(&p.mem[firstCell+i*int(unsafe.Sizeof(Cell{}))]))
}

// Control is the agent's page, seen from either side.
type Control struct {
	mem []byte
}

type control struct {
	header
	heartbeat, generation atomic.Uint64
}

func (c *Control) words() *control { return (*control)(unsafe.Pointer(unsafe.SliceData(c.mem))) }

// Heartbeat is a count that grows as long as the agent lives.
func (c *Control) Heartbeat() uint64 { return c.words().heartbeat.Load() }

// Beat adds one to it. Only the agent may: elsewhere the page is read-only.
func (c *Control) Beat() { c.words().heartbeat.Add(1) }

// Generation is the number of the policies in force.
func (c *Control) Generation() uint64 { return c.words().generation.Load() }

// SetGeneration is the agent's side of it.
func (c *Control) SetGeneration(n uint64) { c.words().generation.Store(n) }
