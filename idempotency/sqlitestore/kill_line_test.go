//go:build linux

package sqlitestore

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// line is a proxy that cuts connections: with a request that then never
// arrives, with an answer that then never arrives, and within an answer.
type line struct {
	net.Listener
	to                        string
	asking, answering, within atomic.Int32 // how often it has cut

	mu   sync.Mutex
	open map[net.Conn]bool
}

func newLine(t *testing.T, to string) *line {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{Listener: listener, to: to, open: make(map[net.Conn]bool)}
	var calls sync.WaitGroup
	calls.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			calls.Go(func() { l.connect(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		l.mu.Lock()
		for conn := range l.open {
			conn.Close()
		}
		l.mu.Unlock()
		calls.Wait()
	})
	return l
}

// connect carries one connection both ways, until either end or the line ends
// it.
func (l *line) connect(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer far.Close()
	l.mu.Lock()
	l.open[near] = true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.open, near)
		l.mu.Unlock()
	}()
	var answers sync.WaitGroup
	answers.Go(func() {
		defer near.Close()
		carry(near, far, &l.answering, &l.within)
	})
	carry(far, near, &l.asking, nil)
	far.Close()
	answers.Wait()
}

// carry copies from one end to the other. One in 40 pieces is lost with the
// connection, and another one, if within is not nil, after half of it.
func carry(to, from net.Conn, whole, within *atomic.Int32) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		switch dice := rand.IntN(40); {
		case dice == 0:
			whole.Add(1)
			return
		case dice == 1 && within != nil:
			within.Add(1)
			_, _ = to.Write(buffer[:n/2])
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
