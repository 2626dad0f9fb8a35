//go:build linux

package agent

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/resagent/resagent/agent/page"
)

// rawWords is a page as a process that means harm sees it.
func rawWords(p *page.Page) []atomic.Uint64 {
	const beforeCells = 1024
	return unsafe.Slice((*atomic.Uint64)(unsafe.Add(unsafe.Pointer(p.Cell(0)), -beforeCells)), page.Size/8)
}

// FuzzPage writes anything at all into a page that the agent has mapped, while
// the agent works on it, is told of it, is killed and brings it back.
func FuzzPage(f *testing.F) {
	f.Add([]byte{})
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		program := make([]byte, 300*writeSize)
		for i := range program {
			program[i] = byte(random.Uint32())
		}
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		d := newDefaced(t)
		for i := 0; i+writeSize <= len(program); i += writeSize {
			d.write(program[i:])
			d.work(i / writeSize)
			if program[i]%16 == 3 {
				d.restart()
			}
			d.check("between two writes")
		}
		d.end()
	})
}

// TestPageDefacedMeanwhile is the same with the writes between any two
// instructions of the agent.
func TestPageDefacedMeanwhile(t *testing.T) {
	for seed := range uint64(4) {
		d := newDefaced(t)
		random := rand.New(rand.NewPCG(seed, 0))
		var scribbler sync.WaitGroup
		stop := make(chan struct{})
		scribbler.Go(func() {
			var b [writeSize]byte
			for {
				for i := range b {
					b[i] = byte(random.Uint32())
				}
				select {
				case <-stop:
					return
				default:
					d.write(b[:])
				}
			}
		})
		for k := range 100 {
			d.work(k)
			d.check(fmt.Sprintf("seed %d, look %d", seed, k))
		}
		close(stop)
		scribbler.Wait()
		d.end()
	}
}

// defaced is a host with an honest process and one that writes anything into
// its page. The agent must not fall, must not give out more than the limits,
// and must not let the honest one pay: what it was granted it keeps, and with
// the liar dead it has everything.
type defaced struct {
	t            *testing.T
	w            *world
	liar, honest *actor
	raw          []atomic.Uint64 // the liar's page
}

const (
	defacedPermits = 5
	writeSize      = 10 // bytes of a program for one write
)

func newDefaced(t *testing.T) *defaced {
	w := newWorld(policy(defacedPermits, 100, 5, 20))
	d := &defaced{t: t, w: w, liar: w.spawn(1), honest: w.spawn(2)}
	d.liar.liar = true
	for _, one := range []*actor{d.honest, d.liar} {
		w.connect(one)
		for k := range kinds {
			w.open(one, k)
		}
	}
	d.raw = rawWords(d.liar.page)
	w.want(d.honest, 0, 2)
	for range 2 {
		if !w.take(d.honest, 0, 1) {
			t.Fatal("the honest process was not granted two of five free permits")
		}
	}
	return d
}

// write is one: which word (every second time one of the cells in use), and
// what: anything, something of an epoch that fits, or that with small counts.
func (d *defaced) write(b []byte) {
	at := int(binary.LittleEndian.Uint16(b))
	if at&1 == 0 {
		const firstCell, words = 1024 / 8, int(unsafe.Sizeof(page.Cell{}) / 8)
		at = firstCell + d.liar.gates[at>>1%3].index*words + at>>3%words
	}
	v := binary.LittleEndian.Uint64(b[2:])
	fits := uint64(d.liar.gates[0].epoch) << 48
	switch b[9] % 4 {
	case 1:
		v = v&(1<<48-1) | fits
	case 2:
		v = v&0x0000_0700_0007 | fits
	case 3:
		v &= 1
	}
	d.raw[at%len(d.raw)].Store(v)
}

// work has the agent look, for both; the honest one keeps two permits, or asks
// for one more, or for more than there is, and takes what comes.
func (d *defaced) work(k int) {
	g := &d.honest.gates[0]
	g.waiting = [...]int{0, 1, 0, 2 * defacedPermits}[k%4]
	for g.waiting == 0 && len(g.held) > 2 {
		d.w.release(d.honest, 0, 2, false)
	}
	d.w.tell(d.honest, 0)
	d.w.hint(d.liar, k%3)
	d.w.hint(d.honest, k%3)
	d.w.pass(3 * time.Millisecond)
	for g.waiting > 0 && d.w.take(d.honest, 0, 1) {
	}
	d.check("with all that the honest process can take")
}

// restart kills the agent, and brings both pages to the next.
func (d *defaced) restart() {
	d.w.kill()
	d.w.boot()
	d.w.connect(d.honest)
	if m, err := page.Map(d.liar.file); err == nil { // else it is refused: not a page any more
		m.Close()
		d.w.connect(d.liar)
	}
}

func (d *defaced) check(when string) {
	d.t.Helper()
	for _, l := range d.w.alloc.limits {
		if l.out() > l.capacity {
			d.t.Fatalf("%s: %d of %s are out, the limit is %d", when, l.out(), l.kind, l.capacity)
		}
	}
	g := d.honest.gates[0]
	if c := d.honest.page.Cell(g.index).Read(); c.Epoch != g.epoch || c.InUse != len(g.held) || c.InUse+c.Available > defacedPermits {
		d.t.Fatalf("%s: the honest process's cell is %+v, it holds %d of at most %d", when, c, len(g.held), defacedPermits)
	}
}

func (d *defaced) end() {
	d.t.Helper()
	d.check("before the liar's death")
	d.w.die(d.liar)
	d.w.pass(settle)
	for range 5 {
		d.work(3)
	}
	if n := len(d.honest.gates[0].held); n != defacedPermits {
		d.t.Fatalf("with the liar dead the honest process has %d of %d permits", n, defacedPermits)
	}
	d.w.die(d.honest)
	d.w.kill() // which unmaps
}
