//go:build linux

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// full is a socket at which this user has all the connections that it may have.
func full(t *testing.T) (a *Agent, dial func() net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	a = new(Agent)
	c := newBounded(a, l, 2)
	s := &http.Server{Handler: http.NotFoundHandler()}
	go s.Serve(c)
	t.Cleanup(func() { s.Close() })
	dial = func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	dial()
	return a, dial
}

// Whoever is refused a connection gets the answer that says so, not a broken
// pipe: it may be about to send its request, or be in the middle of it.
func TestRefusedConnectionIsAnswered(t *testing.T) {
	a, dial := full(t)
	for i := range 200 {
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return dial(), nil },
		}}
		resp, err := client.Post("http://resagent/v1/overrides", "", strings.NewReader(strings.Repeat("x", 20<<10)))
		if err != nil {
			t.Fatalf("request %d: %v, want an answer", i, err)
		}
		var p Problem
		err = json.NewDecoder(resp.Body).Decode(&p)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 503 || !strings.Contains(p.Detail, "1 connections already") {
			t.Fatalf("request %d: %s, %+v, %v, want 503 and why", i, resp.Status, p, err)
		}
	}
	text := string(exposition(Status{Refusals: a.refusals.list()}, nil))
	if line := `resagent_connections_refused_total{reason="user"} 200`; !strings.Contains(text, "\n"+line+"\n") {
		t.Errorf("no line %q in\n%s", line, text)
	}
}

// Those who say nothing hold up no other, and nobody else is answered before the
// request, which clients take for an error.
func TestSilentConnectionsDelayNobody(t *testing.T) {
	_, dial := full(t)
	began := time.Now()
	for range 10 * fewRefusing {
		dial()
	}
	one := dial()
	one.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := one.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one among many, which has asked for nothing yet, reads %d bytes, %v", n, err)
	}
	one.SetReadDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(one, "GET / HTTP/1.1\r\nHost: resagent\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(one), nil)
	if err != nil {
		t.Fatalf("one among many: %v, want an answer", err)
	}
	resp.Body.Close()
	if took := time.Since(began); resp.StatusCode != 503 || took > requestWithin {
		t.Errorf("one among many: %s after %v, want 503 at once", resp.Status, took)
	}
}

// A limit of open files leaves room for so many; where it is for all, nothing
// is said.
func TestRoom(t *testing.T) {
	for _, one := range []struct {
		files       uint64
		most, admin int
		few         bool
	}{
		{44, 1, 2, true},
		{1024, 217, 31, true},
		{18975, 4607, 128, true},
		{18976, 4608, 128, false},
		{math.MaxUint64, 4608, 128, false},
	} {
		var log strings.Builder
		a := &Agent{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		a.sayRoom(one.files)
		most, admin, need := room(one.files)
		if most != one.most || admin != one.admin || strings.Contains(log.String(), "level=WARN") != one.few {
			t.Errorf("with %d files: %d connections, %d of operators, and said %q; want %d and %d", one.files, most, admin, log.String(), one.most, one.admin)
		}
		if used := (most+admin)*descriptorsPerPeer + descriptorsKept; uint64(used) > min(one.files, need) {
			t.Errorf("with %d files: what may be connected to the two sockets takes %d", one.files, used)
		}
	}
	if one, all := ofOneUser(1), ofOneUser(maxSessions); one != 1 || all != connectionsPerUID {
		t.Errorf("one user may have %d of 1 connections and %d of many, want 1 and %d", one, all, connectionsPerUID)
	}
}
