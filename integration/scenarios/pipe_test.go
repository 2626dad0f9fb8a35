package scenarios

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/resagent/resagent/transport"
)

// piped is a real net/http server and a real net/http client side, joined by
// net.Pipe: their time is that of the bubble they live in.
type piped struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *piped) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *piped) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *piped) Addr() net.Addr { return &net.UnixAddr{Name: "bubble", Net: "unix"} }

func (l *piped) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// zero is &transport.Transport{} over such a server. Call it, and end, in a
// bubble.
func zero(t *testing.T, h http.HandlerFunc) (client *http.Client, end func()) {
	t.Helper()
	l := &piped{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	base := &http.Transport{DialContext: l.dial}
	return &http.Client{Transport: &transport.Transport{Base: base, Agent: alone()}}, func() {
		base.CloseIdleConnections()
		srv.Close()
		wg.Wait()
	}
}
