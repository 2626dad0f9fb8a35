package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// pieceWithin is how long the peer may take for a piece of the queue. One
	// that runs takes it at once, however busy the machine is.
	pieceWithin = 10 * time.Second
	// piece is what is written at a time, in bytes.
	piece = 64 << 10
	// short lines are copied together in the queue. Longer ones are kept as they
	// are: a policy set is one line for all connections.
	short = 4 << 10
)

var (
	// ErrBehind: the peer does not read. Its queue is full, or did not move for
	// too long.
	ErrBehind = errors.New("wire: the peer does not read")
	// ErrLine: a line longer than the reader accepts.
	ErrLine = errors.New("wire: line too long")
)

// Conn sends and receives lines. Send may be called from many goroutines and
// does not wait for the peer: what the socket does not take is queued, in
// bounds, and written by a goroutine that lives only as long as the queue.
// Receive is for one goroutine.
type Conn struct {
	unix *net.UnixConn
	in   *bufio.Reader
	line []byte

	// MaxQueue bounds what waits for the peer, in bytes, with what is being
	// written. MaxIn bounds a line received. They are set before use, or while
	// nobody sends or receives.
	MaxQueue, MaxIn int
	// Within is how long the peer may take for 64 KiB of what waits for it, before
	// the connection is closed. Zero: 10 s. Set before use.
	Within time.Duration

	mu       sync.Mutex
	queue    [][]byte
	waiting  int  // bytes in the queue
	own      bool // the queue's last element is the connection's, to be appended to
	flushing bool
	broken   error
}

// NewConn wraps a connection on which lines are spoken from now on. rest is
// what was already read from it.
func NewConn(c *net.UnixConn, rest []byte, maxIn, maxQueue int) *Conn {
	in := bufio.NewReaderSize(c, 2048)
	if len(rest) > 0 {
		in = bufio.NewReaderSize(&rested{rest: rest, next: c}, 2048)
	}
	return &Conn{unix: c, in: in, MaxIn: maxIn, MaxQueue: maxQueue}
}

// rested reads what was already read, then the connection.
type rested struct {
	rest []byte
	next *net.UnixConn
}

func (r *rested) Read(p []byte) (int, error) {
	if len(r.rest) > 0 {
		n := copy(p, r.rest)
		r.rest = r.rest[n:]
		return n, nil
	}
	return r.next.Read(p)
}

// Send queues one message. ErrBehind or the connection's error ends the
// connection for sending.
func (c *Conn) Send(m *Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("wire: %w", err)
	}
	return c.SendLine(append(line, '\n'))
}

// SendLine is Send for a message already made, with its newline. The line is
// kept until it is sent, and must not change.
func (c *Conn) SendLine(line []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	if !c.flushing {
		n, err := c.try(line)
		if err != nil {
			c.broken = err
			return err
		}
		line = line[n:]
		if len(line) == 0 {
			return nil
		}
	}
	if c.waiting+len(line) > c.MaxQueue {
		c.letGo(ErrBehind)
		return c.broken
	}
	c.add(line)
	if !c.flushing {
		c.flushing = true
		go c.flush()
	}
	return nil
}

// add puts a line at the queue's end. With the lock.
func (c *Conn) add(line []byte) {
	c.waiting += len(line)
	switch last := len(c.queue) - 1; {
	case len(line) > short:
		c.queue, c.own = append(c.queue, line), false
	case c.own:
		c.queue[last] = append(c.queue[last], line...)
	default:
		c.queue, c.own = append(c.queue, bytes.Clone(line)), true
	}
}

// written takes n bytes from the queue's beginning. With the lock.
func (c *Conn) written(n int) {
	c.waiting -= n
	if c.queue[0] = c.queue[0][n:]; len(c.queue[0]) == 0 {
		c.queue[0] = nil // the array stays
		c.queue = c.queue[1:]
		c.own = c.own && len(c.queue) > 0
	}
}

// letGo ends the connection. With the lock.
func (c *Conn) letGo(why error) {
	if c.broken == nil { // else it was closed for another reason
		c.broken = why
		c.unix.Close()
	}
}

// flush writes the queue until it is empty.
func (c *Conn) flush() {
	within := cmp.Or(c.Within, pieceWithin)
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 && c.broken == nil {
		out := c.queue[0]
		c.mu.Unlock()
		c.unix.SetWriteDeadline(time.Now().Add(within))
		n, err := c.unix.Write(out[:min(len(out), piece)])
		c.mu.Lock()
		c.written(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = ErrBehind
		}
		if err != nil {
			c.letGo(err)
		}
	}
	c.unix.SetWriteDeadline(time.Time{}) // it is for try too
	c.queue, c.own, c.flushing = nil, false, false
}

// Receive returns the next message. A line that is not JSON is skipped. With
// a read deadline passed it returns the timeout error, loses nothing, and may
// be called again. ErrBehind: the connection was closed because the peer does
// not read.
func (c *Conn) Receive() (*Message, error) {
	for {
		part, err := c.in.ReadSlice('\n')
		c.line = append(c.line, part...)
		if len(c.line) > c.MaxIn {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrLine, c.MaxIn)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, c.ended(err)
		}
		m := parseHint(c.line)
		var bad error
		if m == nil {
			m = new(Message)
			bad = json.Unmarshal(bytes.TrimSpace(c.line), m)
		}
		if cap(c.line) > 1<<16 {
			c.line = nil
		}
		c.line = c.line[:0]
		if bad == nil {
			return m, nil
		}
	}
}

// ended is why Receive ended, for one that ended with err.
func (c *Conn) ended(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.broken, ErrBehind) && errors.Is(err, net.ErrClosed) {
		return c.broken
	}
	return err
}

// SetReadDeadline is for Receive.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.unix.SetReadDeadline(t) }

// Close closes the connection. Receive and flush end.
func (c *Conn) Close() error { return c.unix.Close() }

// SendFiles sends a message with descriptors as the first bytes of a line. It
// waits for the peer: set a write deadline on u.
func SendFiles(u *net.UnixConn, m *Message, files ...*os.File) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("wire: %w", err)
	}
	line = append(line, '\n')
	n, _, err := u.WriteMsgUnix(line[:1], rights(files), nil)
	if err != nil || n != 1 {
		return fmt.Errorf("wire: sending %d descriptors: %w", len(files), err)
	}
	_, err = u.Write(line[1:])
	return err
}
