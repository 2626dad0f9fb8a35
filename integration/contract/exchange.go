package contract

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// upload is a request body that counts its closings.
type upload struct {
	io.Reader
	what   string
	stays  context.Context // at its end a Read waits for this or for Close; nil: it does not
	closes atomic.Int32
	first  chan struct{}
	once   sync.Once
}

// body makes a watched request body, which is to be closed by the end of the
// point.
func (t *T) body(what string, r io.Reader) *upload {
	b := &upload{Reader: r, what: what, first: make(chan struct{})}
	t.mu.Lock()
	t.bodies = append(t.bodies, b)
	t.mu.Unlock()
	return b
}

func (b *upload) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.stays != nil {
		select { // net/http hangs in a Read that does not end with the call
		case <-b.first:
		case <-b.stays.Done():
		}
		err = http.ErrBodyReadAfterClose
	}
	return n, err
}

func (b *upload) Close() error {
	b.closes.Add(1)
	b.once.Do(func() { close(b.first) })
	return nil
}

// verdict waits, until late is done, for the first Close, which may come after RoundTrip has
// returned, and counts. net/http itself closes some bodies twice, which it
// may.
func (b *upload) verdict(t *T, late context.Context) {
	if !t.closes {
		return
	}
	select {
	case <-b.first:
	case <-late.Done():
	}
	if b.closes.Load() == 0 {
		t.Errorf("%s: the request body was never closed", b.what)
		return
	}
	if n := b.closes.Load(); n > 1 && !t.o.Bare {
		t.Errorf("%s: the request body was closed %d times", b.what, n)
	}
}

// request makes one; body may be nil.
func (t *T) request(method, url string, body io.Reader) *http.Request {
	return t.requestWith(context.Background(), method, url, body)
}

func (t *T) requestWith(ctx context.Context, method, url string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatalf("the request cannot be made: %v", err)
	}
	return req
}

// replayable gives a request a GetBody whose bodies are watched too.
func (t *T) replayable(req *http.Request, what string, fresh func() io.Reader) {
	req.GetBody = func() (io.ReadCloser, error) {
		return t.body(what+", from GetBody", fresh()), nil
	}
}

// do sends a request and holds the result to what every result must be: one of
// response and error, and a body that is there.
func (t *T) do(rt http.RoundTripper, req *http.Request) (resp *http.Response, err error) {
	t.within(req.Method+" "+req.URL.Path, func() { resp, err = rt.RoundTrip(req) })
	what := req.Method + " " + req.URL.Path
	switch {
	case resp != nil && err != nil:
		t.Errorf("%s: both a response and the error %v", what, err)
	case resp == nil && err == nil:
		t.Fatalf("%s: neither a response nor an error", what)
	}
	if resp == nil {
		return nil, err
	}
	if resp.Body == nil {
		t.Fatalf("%s: the response has no Body", what)
	}
	t.cleanup(func() { resp.Body.Close() })
	return resp, err
}

// describe says all that a caller sees of a response, its body last.
func (t *T) describe(resp *http.Response, err error, say func(string, ...any)) {
	if err != nil {
		say("an error (%s)", kind(err))
		return
	}
	header := resp.Header.Clone()
	header.Del("Date")
	say("status %q, %s", resp.Status, resp.Proto)
	say("header %s", fields(header))
	say("length %d, encoding %q, close %t, uncompressed %t, TLS %t",
		resp.ContentLength, resp.TransferEncoding, resp.Close, resp.Uncompressed, resp.TLS != nil)
	say("trailers announced %s", fields(resp.Trailer))
	_, writable := resp.Body.(io.Writer)
	say("NoBody %t, writable %t", resp.Body == http.NoBody, writable)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	var data []byte
	t.within("reading the response", func() { data, err = io.ReadAll(resp.Body) })
	say("body %q (%s)", t.without(string(data)), kind(err))
	say("trailers %s", fields(resp.Trailer))
	n, err := resp.Body.Read(make([]byte, 1))
	say("at the end %d (%s)", n, kind(err))
	say("closing gives %v", resp.Body.Close())
	n, err = resp.Body.Read(make([]byte, 1))
	say("after Close %d, an error %t", n, err != nil)
	say("closing again gives %v", resp.Body.Close())
}

// without leaves out of an echo what policy may add.
func (t *T) without(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool {
		return slices.ContainsFunc(t.o.Adds, func(k string) bool { return strings.HasPrefix(l, k+": ") })
	}), "")
}

// unknown begins the text of an error of no kind that callers ask for.
const unknown = "an error: "

// kind says of an error what callers ask.
func kind(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return "no error"
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "unexpected EOF"
	case errors.Is(err, errCause):
		return "the caller's cause"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline exceeded"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "a timeout"
	}
	return unknown + strings.Join(strings.Fields(trimPorts(err.Error())), " ")
}

// trimPorts leaves out what differs from one connection to the next.
func trimPorts(s string) string {
	for _, cut := range []string{"127.0.0.1:", "[::1]:"} {
		for {
			i := strings.Index(s, cut)
			if i < 0 {
				break
			}
			rest := strings.TrimLeft(s[i+len(cut):], "0123456789")
			s = s[:i] + "host" + rest
		}
	}
	return s
}

var errCause = errors.New("the caller's own reason")

// roundTrip is a function as a round tripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// fine answers 200 and keeps the contract towards its caller.
func fine(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	return &http.Response{
		Status: "200 OK", StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader("fine")), ContentLength: 4, Request: req,
	}, nil
}

var errBase = errors.New("connection reset by the test")

// failing closes the body and fails.
func failing(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	return nil, errBase
}
