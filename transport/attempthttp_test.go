package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// registers counts what hangs on a caller's context, which does not end.
type registers struct {
	context.Context
	done chan struct{}
	hang atomic.Int32
}

func (r *registers) Done() <-chan struct{} { return r.done }

func (r *registers) AfterFunc(func()) func() bool {
	r.hang.Add(1)
	return func() bool { return r.hang.Add(-1) >= 0 }
}

// TestOwnContextOverHTTP: over net/http's Transport the attempt is the context;
// timeouts, the caller's end with its cause, and bodies that hang come out as
// over any base, and nothing of a call is left on the caller's context.
func TestOwnContextOverHTTP(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hangs":
			<-release
		case "/stalls":
			w.Write([]byte("some"))
			w.(http.Flusher).Flush()
			<-release
		}
	}))
	defer srv.Close()
	defer close(release)
	var seen atomic.Value
	base := &http.Transport{Proxy: func(req *http.Request) (*url.URL, error) {
		l, _ := req.Context().(*lifetime)
		seen.Store(l != nil && l.direct)
		return nil, nil
	}}
	defer base.CloseIdleConnections()
	tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, policies.Policy{
		Match:   []policies.Match{{Host: "127.0.0.1"}},
		Timeout: &policies.Timeout{Attempt: 500 * time.Millisecond, Idle: 500 * time.Millisecond, Total: time.Minute}, // a busy machine answers well by then
		Retry:   &policies.Retry{Disabled: true}, CircuitBreaker: &policies.CircuitBreaker{Disabled: true},
	})}
	call := func(ctx context.Context, path string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		return err
	}
	counts := &registers{Context: context.Background(), done: make(chan struct{})}
	for _, ctx := range []context.Context{context.Background(), counts} {
		for path, want := range map[string]error{"/well": nil, "/hangs": ErrAttemptTimeout, "/stalls": ErrIdleTimeout} {
			if err := call(ctx, path); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s: %v, want %v", path, err, want)
			}
			if seen.Load() != true {
				t.Errorf("%s: the attempt was not the context", path)
			}
		}
	}
	for end := time.Now().Add(10 * time.Second); counts.hang.Load() != 0; runtime.Gosched() { // the alarm's goroutine may be at it
		if time.Now().After(end) {
			t.Fatalf("%d registrations are left on the caller's context", counts.hang.Load())
		}
	}
	ctx, end := context.WithCancelCause(context.Background())
	time.AfterFunc(10*time.Millisecond, func() { end(errOther) })
	if err := call(ctx, "/hangs"); !errors.Is(err, errOther) {
		t.Errorf("the caller's end came out as %v", err)
	}
	var info Info
	if err := call(WithInfo(context.Background(), &info), "/hangs"); !errors.Is(err, ErrAttemptTimeout) || seen.Load() != false {
		t.Errorf("with a hook in between: %v, own %v", err, seen.Load())
	}
}

// TestAnswerBesideTheCallersRead: where the base still reads the request's body,
// and that takes long, an answer worth a retry is given as it is.
func TestAnswerBesideTheCallersRead(t *testing.T) {
	// It answers before it has read the body, which net/http's server does not.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	waits := make(chan struct{}, 1) // a Read of the body has begun that gets nothing
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
		c.Read(make([]byte, 4096))
		<-waits
		fmt.Fprintf(c, "HTTP/1.1 503 no\r\nContent-Length: 20000\r\n\r\n%s", strings.Repeat("x", 20_000))
	}()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := &Transport{Base: base, Agent: alone(t), random: func() float64 { return 0.01 }}
	reads, writes := io.Pipe()
	defer writes.Close()
	go writes.Write([]byte("some"))
	req, err := http.NewRequest(http.MethodPut, "http://"+l.Addr().String(), &second{reads, 0, waits})
	if err != nil {
		t.Fatal(err)
	}
	var info Info
	resp, err := tr.RoundTrip(req.WithContext(WithInfo(t.Context(), &info)))
	if err != nil || resp.StatusCode != 503 || info.Stopped != bodyGone {
		t.Fatalf("%v, %v, %+v, want the 503", resp, err, info)
	}
	if text := read(t, resp); len(text) != 20_000 {
		t.Errorf("%d bytes of the answer, want 20000", len(text))
	}
}

// second is a body that tells when its second Read begins.
type second struct {
	io.ReadCloser
	reads int
	told  chan struct{}
}

func (s *second) Read(p []byte) (int, error) {
	if s.reads++; s.reads == 2 {
		s.told <- struct{}{}
	}
	return s.ReadCloser.Read(p)
}

// canary is a request body that tells when it is gone from memory.
type canary struct{ *strings.Reader }

func (*canary) Close() error { return nil }

func newCanary(gone *atomic.Int32) *canary {
	b := &canary{strings.NewReader("x")}
	runtime.AddCleanup(b, func(int) { gone.Add(1) }, 0)
	return b
}

// TestNothingKeepsACall that is over: net/http keeps its context, for a
// connection that it waited for, and must not keep the caller's body with it.
func TestNothingKeepsACall(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(time.Millisecond)
	}))
	defer srv.Close()
	tr := &Transport{Base: &http.Transport{}, Agent: alone(t), Policies: compile(t, policies.Policy{
		Match:       []policies.Match{{Host: "127.0.0.1"}},
		Connections: &policies.Connections{MaxPerHost: 1},
		Retry:       &policies.Retry{Disabled: true},
	})}
	defer tr.CloseIdleConnections()
	const calls = 30
	var gone atomic.Int32
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			req, err := http.NewRequest(http.MethodPost, srv.URL, newCanary(&gone))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		})
	}
	all.Wait()
	// The newest may lie on a stack.
	for end := time.Now().Add(10 * time.Second); gone.Load() < calls-1; runtime.Gosched() {
		if runtime.GC(); time.Now().After(end) {
			t.Fatalf("of %d bodies of calls that are over, %d are kept", calls, calls-gone.Load())
		}
	}
}
