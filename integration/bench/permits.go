package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// permits measures a permit's taking and giving back while nobody else wants
// it, against asking somebody for each over a Unix socket.
func permits(rounds int) error {
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
		{"process-local", func(b *testing.B) {
			for b.Loop() {
				take(b, own)
			}
		}},
		{"host-wide", func(b *testing.B) {
			for b.Loop() {
				take(b, shared)
			}
		}},
		{"host-wide, all processors at once", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					take(b, shared)
				}
			})
		}},
		{"naive: a round trip each over a Unix socket", func(b *testing.B) {
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
	naive := len(runs) - 1
	server, err := newRedis(h.dir)
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Close()
		runs = append(runs, contestant{"a token from Redis on loopback", func(b *testing.B) {
			for b.Loop() {
				if err := server.ask(); err != nil {
					b.Fatal(err)
				}
			}
		}})
	} else {
		fmt.Println("\nThere is no redis-server here (apt-get install redis-server): it is left out.")
	}
	results, err := race(rounds, runs)
	if err != nil {
		return err
	}
	rows := [][]string{{"", "time", "naive is slower by", "Redis is slower by"}}
	for _, f := range results {
		row := []string{f.name, spread(f), fmt.Sprintf("%.0f", results[naive].time.Center/f.time.Center), ""}
		if server != nil {
			row[3] = fmt.Sprintf("%.0f", results[len(results)-1].time.Center/f.time.Center)
		}
		rows = append(rows, row)
	}
	show("Permit: acquire and release, uncontended", rows...)
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
