package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

var (
	// ErrBehind: the peer does not read, and its queue is full.
	ErrBehind = errors.New("wire: the peer does not read: queue full")
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

	// MaxQueue bounds what waits for the peer, in bytes. MaxIn bounds a line
	// received. They are set before use, or while nobody sends or receives.
	MaxQueue, MaxIn int

	mu       sync.Mutex
	queue    []byte
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

// SendLine is Send for a message already made, with its newline.
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
	if len(c.queue)+len(line) > c.MaxQueue {
		c.broken = ErrBehind
		c.unix.Close()
		return c.broken
	}
	c.queue = append(c.queue, line...)
	if !c.flushing {
		c.flushing = true
		go c.flush()
	}
	return nil
}

// flush writes the queue until it is empty.
func (c *Conn) flush() {
	for {
		c.mu.Lock()
		out := c.queue
		c.queue = nil
		if len(out) == 0 || c.broken != nil {
			c.flushing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if _, err := c.unix.Write(out); err != nil {
			c.mu.Lock()
			if c.broken == nil { // else it was closed for being behind
				c.broken = err
			}
			c.mu.Unlock()
		}
	}
}

// Receive returns the next message. A line that is not JSON is skipped. With
// a read deadline passed it returns the timeout error, loses nothing, and may
// be called again.
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
			return nil, err
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
