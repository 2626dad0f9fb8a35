package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tape is a file in shared memory on which one process of the demo writes
// what it counts. What is on it outlives a SIGKILL of its writer.
type tape struct {
	memory  []byte
	head    *tapeHead
	records []record
}

// tapeHead is the first page of a tape. Latency is written by the demo, the
// rest by the tape's writer.
type tapeHead struct {
	Next     atomic.Uint64        // records begun
	Lost     atomic.Uint64        // records that found the tape full
	Ready    atomic.Uint32        // 1: it serves, or has fetched every key
	Latency  atomic.Int64         // how long the upstream works on a call, ns
	InFlight [routes]atomic.Int32 // calls that the upstream works on for somebody
	Orphans  [routes]atomic.Int32 // calls that it works on for nobody any more
	Open     [routes]atomic.Uint32
}

// record is one thing that happened. Which fields are set depends on its kind.
type record struct {
	When     int64  // nanoseconds of CLOCK_MONOTONIC, which all processes share; 0: not written
	ID       uint64 // of the original request
	Ref      uint32 // left, abandoned: which record began it; called: how long it took, in µs
	Level    uint16 // came, left, abandoned: calls in flight after it
	Kind     kind
	Route    route
	Outcome  outcome
	Attempts uint8
	_        uint16
	Waited   uint32 // called: in queues and between attempts, in µs
}

type kind uint8

const (
	came      kind = iota + 1 // the upstream began to work on a call
	left                      // it ended
	abandoned                 // its caller is gone; the work goes on
	called                    // a worker has an answer, or an error
	failed                    // a worker's attempt got an error
	opened                    // a worker's circuit opened
	closed                    // and closed
)

// outcome of a call, as a worker sees it.
type outcome uint8

const (
	answered  outcome = iota + 1 // by the upstream, with what was asked for
	stale                        // from the cache
	static                       // with the policy's fixed answer
	refused                      // by this host's own limits
	errored                      // by an error of the upstream
	different                    // with something else than was asked for
)

const (
	tapeHeadSize = 4096
	tapeRecords  = 1 << 18 // 8 MiB of address space; what is not written takes none
)

func (r record) at() time.Duration { return time.Duration(r.When) }

// worker is the index of the worker that made the request.
func (r record) worker() int { return int(r.ID >> 48) }

// openTape maps the tape at path, and makes it if it is not there.
func openTape(path string) (*tape, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := tapeHeadSize + tapeRecords*int(unsafe.Sizeof(record{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("cannot map %s: %w", path, err)
	}
	return &tape{
		memory:  memory,
		head:    (*tapeHead)(unsafe.Pointer(&memory[0])),
		records: unsafe.Slice((*record)(unsafe.Pointer(&memory[tapeHeadSize])), tapeRecords),
	}, nil
}

func (t *tape) close() { unix.Munmap(t.memory) }

// write adds a record with the time of now, and returns its index.
func (t *tape) write(r record) uint32 {
	i := t.head.Next.Add(1) - 1
	if i >= tapeRecords {
		t.head.Lost.Add(1)
		return 0
	}
	to := &t.records[i]
	*to = r
	// Last, for it says that the record is whole.
	atomic.StoreInt64(&to.When, int64(monotonic()))
	return uint32(i)
}

// at gives record i. False: it is not whole (yet).
func (t *tape) at(i int) (record, bool) {
	if i >= tapeRecords || atomic.LoadInt64(&t.records[i].When) == 0 {
		return record{}, false
	}
	return t.records[i], true
}

// all gives every record by its index. One that its writer was killed over is
// zero.
func (t *tape) all() []record {
	n := min(int(t.head.Next.Load()), tapeRecords)
	out := make([]record, n)
	for i := range n {
		out[i], _ = t.at(i)
	}
	return out
}

// monotonic is a clock that all processes of the host share.
func monotonic() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // this clock is always there
	return time.Duration(ts.Nano())
}
