package transport

import (
	"container/heap"
	"sync"
	"time"
)

// alarms strike for the attempts of one transport, all by one timer of the
// runtime. A timer for each attempt is the earliest of its thread more often
// than not, and setting that wakes the thread which waits for the network: a
// system call and a change of threads for each request, an eighth of the
// throughput over loopback.
//
// The timer is set when something has to strike before all else that it is set
// for, and never stopped: with calls that end in time it fires once in the
// length of a timeout, and finds what is due next.
//
// The zero value is ready to use. Safe for concurrent use; an attempt's lock
// is taken before this one, never after. Times count from epoch.
type alarms struct {
	mu    sync.Mutex
	queue queue
	timer *time.Timer
	fires time.Duration // when the timer will; 0: it is not set
}

// set has a strike at the time at, in place of what was set for it before. It
// does nothing for an attempt that has ended.
func (l *alarms) set(a *attempt, at, now time.Duration) {
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
func (l *alarms) arm(now time.Duration) {
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
func (l *alarms) drop(a *attempt) {
	l.mu.Lock()
	if a.place != 0 {
		heap.Remove(&l.queue, int(a.place)-1)
	}
	l.mu.Unlock()
}

// strike is the timer's function. Each attempt has a goroutine of its own: to
// close a body may take its time.
func (l *alarms) strike() {
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
