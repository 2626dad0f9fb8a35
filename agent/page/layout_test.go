package page

import (
	"testing"
	"unsafe"
)

// The byte table of doc.go. Both sides may be of different builds: it changes
// only with Version.
func TestLayout(t *testing.T) {
	var c Cell
	var h control
	p := &Page{mem: make([]byte, Size)}
	at := func(i int) uintptr {
		return uintptr(unsafe.Pointer(p.Cell(i))) - uintptr(unsafe.Pointer(unsafe.SliceData(p.mem)))
	}
	for _, one := range []struct {
		what      string
		got, want uintptr
	}{
		{"version", Version, 1},
		{"page size", Size, 64 << 10},
		{"cells", Cells, 512},
		{"cell size", unsafe.Sizeof(c), 64},
		{"first cell", at(0), 1024},
		{"second cell", at(1), 1024 + 64},
		{"end of the last cell", at(Cells-1) + 64, 33792},
		{"cell: word", unsafe.Offsetof(c.word), 0},
		{"cell: target", unsafe.Offsetof(c.target), 8},
		{"cell: waiting", unsafe.Offsetof(c.waiting), 16},
		{"cell: extra", unsafe.Offsetof(c.extra), 24},
		{"cell: deposits", unsafe.Offsetof(c.deposits), 32},
		{"cell: pending", unsafe.Offsetof(c.pending), 40},
		{"cell: calls sent", unsafe.Offsetof(c.sent), 48},
		{"cell: calls not sent", unsafe.Offsetof(c.unsent), 56},
		{"header: magic", unsafe.Offsetof(h.magic), 0},
		{"header: version", unsafe.Offsetof(h.version), 8},
		{"control: heartbeat", unsafe.Offsetof(h.heartbeat), 16},
		{"control: generation", unsafe.Offsetof(h.generation), 24},
	} {
		if one.got != one.want {
			t.Errorf("%s: %d, the table in doc.go says %d", one.what, one.got, one.want)
		}
	}
	if uintptr(33792)+496*64 > Size {
		t.Error("the outcome cells do not fit the page")
	}
}

func TestBitsOfTheWord(t *testing.T) {
	var c Cell
	c.Open(0xabcd)
	c.SetTarget(0xabcd, 0x010203)
	c.Grant(0xabcd, 5)
	c.Acquire(0xabcd, 3)
	if got, want := c.word.Load(), uint64(0xabcd_000002_000003); got != want {
		t.Errorf("word %#x, want %#x: epoch 16, available 24, in use 24", got, want)
	}
	if got, want := c.target.Load(), uint64(0xabcd_000000_010203); got != want {
		t.Errorf("target %#x, want %#x: epoch 16, unused 24, permits 24", got, want)
	}
}

func TestMagic(t *testing.T) {
	for word, want := range map[uint64]string{pageMagic: "RSGPAGE1", controlMagic: "RSGCTRL1"} {
		var text []byte
		for i := range 8 {
			text = append(text, byte(word>>(8*i)))
		}
		if string(text) != want {
			t.Errorf("magic reads %q, want %q", text, want)
		}
	}
}
