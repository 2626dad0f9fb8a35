package transport

import (
	"container/heap"
	"sync"
	"time"
	"unsafe"
)

// alarmParts are more than there are processors that begin calls at once, else
// some share one.
const alarmParts = 32

// alarms strike for the attempts of one transport. They are divided among the
// processors, each mostly at its own: what all of them wrote to would go from
// one's cache to the other's with each call, and with one lock for all two
// processors far from each other came to fewer calls than one.
//
// The zero value is ready to use. Safe for concurrent use; an attempt's lock
// is taken before those in here, never after. Times count from epoch.
type alarms [alarmParts]struct {
	alarmPart
	_ [128 - unsafe.Sizeof(alarmPart{})]byte // two cache lines, since they are fetched in pairs
}

func (l *alarms) of(a *attempt) *alarmPart { return &l[a.part].alarmPart }

// nearPart is a part that other processors do not use at present, as a rule: by
// the page that the attempt lies in. The runtime has each processor allocate
// from pages of its own, so some twenty calls that begin at one go to one part.
// No promise hangs on that.
func nearPart(a *attempt) uint8 {
	const page = 8 << 10
	return uint8(uintptr(unsafe.Pointer(a)) / page % alarmParts)
}

// alarmPart strikes for attempts by one timer of the runtime. A timer for each
// attempt is the earliest of its thread more often than not, and setting that
// wakes the thread which waits for the network: a system call and a change of
// threads for each request, an eighth of the throughput over loopback.
//
// The timer is set when something has to strike before all else that it is set
// for, and never stopped: with calls that end in time it fires once in the
// length of a timeout, and finds what is due next.
type alarmPart struct {
	mu    sync.Mutex
	queue queue
	timer *time.Timer
	fires time.Duration // when the timer will; 0: it is not set
}

// set has a strike at the time at, in place of what was set for it before. It
// does nothing for an attempt that has ended.
func (l *alarmPart) set(a *attempt, at, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.ended.Load() {
		return
	}
	if l.fires != 0 && now > l.fires+time.Second {
		l.timer, l.fires = nil, 0 // of a test bubble that is over
	}
	a.strikes = max(at, now)
	if a.place == 0 {
		heap.Push(&l.queue, a)
	} else {
		heap.Fix(&l.queue, int(a.place)-1)
	}
	l.arm(now)
}

// arm sets the timer if it would fire too late. With the lock.
func (l *alarmPart) arm(now time.Duration) {
	if len(l.queue) == 0 {
		return
	}
	next := l.queue[0].strikes
	if l.fires != 0 && l.fires <= next {
		return
	}
	l.fires = next
	if l.timer == nil {
		l.timer = time.AfterFunc(next-now, l.strike)
		return
	}
	l.timer.Reset(next - now)
}

// drop forgets what was set for a, which has ended.
func (l *alarmPart) drop(a *attempt) {
	l.mu.Lock()
	if a.place != 0 {
		heap.Remove(&l.queue, int(a.place)-1)
	}
	l.mu.Unlock()
}

// strike is the timer's function. Each attempt has a goroutine of its own: to
// close a body may take its time.
func (l *alarmPart) strike() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(epoch)
	for len(l.queue) > 0 && l.queue[0].strikes <= now {
		go heap.Pop(&l.queue).(*attempt).fire()
	}
	l.fires = 0
	l.arm(now)
}

// queue is a heap of attempts: the first to strike is the first.
type queue []*attempt

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].strikes < q[j].strikes }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = int32(i+1), int32(j+1)
}

func (q *queue) Push(a any) {
	*q = append(*q, a.(*attempt))
	a.(*attempt).place = int32(len(*q))
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	a := (*q)[last]
	(*q)[last], a.place = nil, 0
	*q = (*q)[:last]
	return a
}
