package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// demoHeader names the original request an attempt belongs to.
const demoHeader = "X-Demo-Request"

// upstream is the demo's server. It counts for itself, on its tape, what
// reaches it.
type upstream struct {
	tape *tape
	dead bool // it resets the connection of every call
}

// runUpstream serves on the listener that the demo opened (file descriptor 3)
// and all its upstreams share, so that the port is never gone. It begins at
// the first byte on standard input, and goes on until it is killed.
func runUpstream(ctx context.Context, tapePath string, dead bool) error {
	t, err := openTape(tapePath)
	if err != nil {
		return err
	}
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("the demo did not say begin: %w", err)
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: &upstream{tape: t, dead: dead}, BaseContext: func(net.Listener) context.Context { return ctx }}
	t.head.Ready.Store(1)
	return server.Serve(l)
}

// ServeHTTP counts a call from here to its end, or to the end of its context
// if that comes first: from then on its caller is gone, and it is counted as
// abandoned as long as it is worked on.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	on, known := routeOf(r.URL.Path)
	id, err := strconv.ParseUint(r.Header.Get(demoHeader), 10, 64)
	if !known || err != nil {
		http.Error(w, "not a call of the demo", http.StatusBadRequest)
		return
	}
	begun := u.come(on, id)
	var over atomic.Bool
	stop := context.AfterFunc(r.Context(), func() {
		if over.CompareAndSwap(false, true) {
			u.tape.head.Orphans[on].Add(1)
			u.leave(abandoned, on, id, begun)
		}
	})
	defer func() {
		stop()
		if !over.CompareAndSwap(false, true) {
			u.tape.head.Orphans[on].Add(-1)
			return
		}
		u.leave(left, on, id, begun)
	}()

	if u.dead {
		reset(w)
		return
	}
	// Also for nobody: a server does not always notice.
	time.Sleep(time.Duration(float64(u.tape.head.Latency.Load()) * (0.8 + 0.4*rand.Float64())))
	w.Header().Set("Cache-Control", "max-age=1")
	fmt.Fprintf(w, "%s is well", r.URL.Path)
}

func (u *upstream) come(on route, id uint64) (begun uint32) {
	n := u.tape.head.InFlight[on].Add(1)
	return u.tape.write(record{Kind: came, Route: on, ID: id, Level: uint16(n)})
}

func (u *upstream) leave(how kind, on route, id uint64, begun uint32) {
	n := u.tape.head.InFlight[on].Add(-1)
	u.tape.write(record{Kind: how, Route: on, ID: id, Ref: begun, Level: uint16(n)})
}

// reset ends a connection as a host does on which nobody listens.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(errors.Join(http.ErrAbortHandler, err))
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}
