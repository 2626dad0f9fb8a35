package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An agent that takes a request and does not answer may still do it, and the
// error says so where it is about a change; not where it was never asked.
func TestUnansweredChangeMayBeMade(t *testing.T) {
	dir := t.TempDir()
	silent, closing, other := filepath.Join(dir, "silent"), filepath.Join(dir, "closing"), filepath.Join(dir, "other")
	for path, then := range map[string]func(net.Conn){
		silent:  func(net.Conn) {}, // as one that is stopped
		closing: func(c net.Conn) { c.Read(make([]byte, 1<<10)); c.Close() },
		other:   func(c net.Conn) { c.Read(make([]byte, 1<<10)); c.Write([]byte("SSH-2.0-x\r\n")); c.Close() },
	} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				then(c)
			}
		}()
	}
	crowded := filepath.Join(dir, "crowded") // has no place for a second one that waits
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: crowded}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", crowded)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	const may = "may be done all the same: see resagent status, resagent override list"
	for _, one := range []struct {
		socket, method, want string
		may                  bool
	}{
		{silent, "POST", "is it stopped?", true},
		{silent, "DELETE", "is it stopped?", true},
		{silent, "GET", "is it stopped?", false},
		{closing, "POST", "it closed the connection: try again", true},
		{closing, "GET", "it closed the connection: try again", false},
		{other, "GET", "does the agent listen there, or another program?", false},
		{crowded, "POST", "more want to connect than the agent can take at once: try again", false},
		{filepath.Join(dir, "none"), "POST", "is resagent.socket active?", false},
	} {
		within := 20 * time.Second
		if one.socket == silent {
			within = 100 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		_, err := send(ctx, one.socket, one.method, "/v1/overrides", []byte("{}"))
		cancel()
		if err == nil || !strings.Contains(err.Error(), one.want) || strings.Contains(err.Error(), may) != one.may {
			t.Errorf("%s to %s: %v, want %q, and that it may be done: %v", one.method, one.socket, err, one.want, one.may)
		}
	}
}
