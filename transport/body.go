package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// body is a response's body with the attempt's permit tied to it: returned at
// EOF, at a Read error or at Close, whichever comes first.
type body struct {
	a      *attempt
	rc     io.ReadCloser
	closed atomic.Bool // begun
	once   sync.Once
	err    error // of closing rc
}

// wrap puts the body into the response.
func (b *body) wrap(a *attempt, resp *http.Response) {
	b.a, b.rc = a, resp.Body
	a.idles = hasIdle(a.method(), resp)
	resp.Body = b
	if w, ok := b.rc.(io.Writer); ok { // 101 Switching Protocols
		resp.Body = &writableBody{b, w}
	}
}

// writableBody is the body of a switched protocol, which is both directions.
type writableBody struct {
	*body
	io.Writer
}

// CloseWrite says that nothing more will be written, as the body of net/http
// does: a ReverseProxy asks for it.
func (b *writableBody) CloseWrite() error {
	if half, ok := b.Writer.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("transport: CloseWrite: %w", errors.ErrUnsupported)
}

// hasIdle says whether silence of this body means that something is wrong. It
// does not where both sides may be silent for as long as they like.
func hasIdle(method string, resp *http.Response) bool {
	if resp.StatusCode == http.StatusSwitchingProtocols || method == http.MethodConnect {
		return false
	}
	kind := strings.ToLower(resp.Header.Get("Content-Type"))
	return !strings.HasPrefix(kind, "text/event-stream") && !strings.HasPrefix(kind, "application/grpc")
}

// Read reads from the upstream. Only here, never while the caller thinks, does
// the idle timeout run.
func (b *body) Read(p []byte) (int, error) {
	return b.read(p, reading)
}

func (b *body) read(p []byte, ph phase) (int, error) {
	watched, after := b.a.idles, headers
	if ph == draining {
		watched, after = true, draining // its time limit is for all of it
	}
	if watched {
		if struck := b.a.enter(ph); struck != nil {
			return 0, struck
		}
	}
	n, err := b.rc.Read(p)
	if watched {
		if struck := b.a.enter(after); struck != nil && err != io.EOF {
			err = struck
		}
	}
	if err != nil {
		b.ends(err, ph)
	}
	if c := b.a.c; c.unlink != nil && errors.Is(err, context.Canceled) { // its context is detached from the caller's
		if cause := context.Cause(c.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

// ends counts a body that broke, and gives the permit back. It is no failure
// of the upstream if the caller closed the body or ended the call, and tells
// little if the body is one that stays open: a restart breaks all of these.
func (b *body) ends(err error, ph phase) {
	if err == io.EOF {
		b.a.answered()
		return
	}
	defer b.a.release() // also if the hook panics
	c := b.a.c
	if ph != draining && b.a.idles && !b.a.ended.Load() &&
		(b.a.idled() || !b.closed.Load() && !c.gaveUp()) {
		if br := c.breaker(); br != nil {
			c.circuit(br.broke(b.a.ticket, c.start))
		}
	}
}

// idled says whether the idle timeout struck.
func (a *attempt) idled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.struck != nil && a.phase == reading
}

// Close closes the upstream's body once and gives the permit back.
func (b *body) Close() error {
	defer b.a.release()
	b.closeOnce()
	return b.err
}

func (b *body) closeOnce() {
	b.closed.Store(true)
	b.once.Do(func() { b.err = b.rc.Close() })
}
