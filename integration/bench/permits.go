package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// The ways to have a permit, by name.
const (
	permitOwn   = "process-local"
	permitHost  = "host-wide"
	permitNaive = "naive: a round trip each over a Unix socket"
	permitRedis = "a token from Redis on loopback"
	permitFlock = "flock on a file, a read and a write"
)

// permits measures a permit's taking and giving back while nobody else wants
// it, against asking somebody for each over a Unix socket.
func permits(book *book) error {
	h, err := newHost(limited(policies.ScopeHost))
	if err != nil {
		return err
	}
	defer h.stop()
	s, err := h.session()
	if err != nil {
		return err
	}
	defer s.Close()
	named := s.Policies().Named("upstream")
	shared, own := s.Limits(named.Name, &named.Policy), client.Local(&named.Policy)
	authority, err := newAuthority(filepath.Join(h.dir, "naive.sock"))
	if err != nil {
		return err
	}
	defer authority.Close()

	ctx := context.Background()
	take := func(b *testing.B, l *client.Limits) {
		p, err := l.Acquire(ctx)
		if err != nil {
			b.Error(err)
			return
		}
		p.Release()
	}
	runs := []contestant{
		{name: permitOwn, run: func(b *testing.B) {
			for b.Loop() {
				take(b, own)
			}
		}},
		{name: permitHost, run: func(b *testing.B) {
			for b.Loop() {
				take(b, shared)
			}
		}},
		{name: "host-wide, all processors at once", run: func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					take(b, shared)
				}
			})
		}},
		{name: permitNaive, run: func(b *testing.B) {
			for b.Loop() {
				if err := authority.ask(); err != nil {
					b.Fatal(err)
				}
				if err := authority.ask(); err != nil {
					b.Fatal(err)
				}
			}
		}},
	}
	file, err := newFlock(filepath.Join(h.dir, "flock"))
	if err != nil {
		return err
	}
	defer file.Close()
	runs = append(runs, contestant{name: permitFlock, run: func(b *testing.B) {
		for b.Loop() {
			if err := file.count(); err != nil {
				b.Fatal(err)
			}
		}
	}})
	server, err := newRedis(h.dir)
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Close()
		runs = append(runs, contestant{name: permitRedis, run: func(b *testing.B) {
			for b.Loop() {
				if err := server.ask(); err != nil {
					b.Fatal(err)
				}
			}
		}})
	} else {
		fmt.Println("There is no redis-server here (apt-get install redis-server): it is left out.")
	}
	return book.race("permits", runs)
}

// flock is a count of permits in a file, read and written under a lock of it.
type flock struct{ *os.File }

func newFlock(path string) (flock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	return flock{f}, err
}

// count takes a permit and gives it back: two turns of lock, read, write.
func (f flock) count() error {
	var word [8]byte
	for _, step := range []int64{1, -1} {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		if _, err := f.ReadAt(word[:], 0); err != nil && err != io.EOF {
			return err
		}
		binary.NativeEndian.PutUint64(word[:], binary.NativeEndian.Uint64(word[:])+uint64(step))
		if _, err := f.WriteAt(word[:], 0); err != nil {
			return err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
			return err
		}
	}
	return nil
}

// authority is a counter that is asked over a socket, one byte each way, by
// one caller at a time.
type authority struct {
	listener net.Listener
	caller   net.Conn
}

func newAuthority(path string) (*authority, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for word := make([]byte, 1); ; {
			if _, err := c.Read(word); err != nil {
				return
			}
			if _, err := c.Write(word); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("unix", path)
	if err != nil {
		l.Close()
		return nil, err
	}
	return &authority{l, c}, nil
}

func (a *authority) ask() error {
	word := [1]byte{1}
	if _, err := a.caller.Write(word[:]); err != nil {
		return err
	}
	_, err := a.caller.Read(word[:])
	return err
}

func (a *authority) Close() {
	a.caller.Close()
	a.listener.Close()
}
