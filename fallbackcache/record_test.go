package fallbackcache

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// source is a body that counts what is asked of it.
type source struct {
	io.Reader
	asked, closed int
}

func (s *source) Read(p []byte) (int, error) { s.asked += len(p); return s.Reader.Read(p) }
func (s *source) Close() error               { s.closed++; return nil }

func streamed(t *testing.T, r io.Reader, length int64, fields ...string) (*http.Request, *http.Response, *source) {
	req := get(t, page)
	resp := response(t, req, 200, "", append(fields, "Cache-Control: max-age=60")...)
	body := &source{Reader: r}
	resp.Body, resp.ContentLength = body, length
	return req, resp, body
}

func TestNothingIsReadAhead(t *testing.T) {
	cache := new(Cache)
	req, resp, body := streamed(t, strings.NewReader("0123456789"), 10)
	got := cache.Keep(req, resp, start)
	if body.asked != 0 {
		t.Fatalf("%d bytes were asked for before the caller read", body.asked)
	}
	p := make([]byte, 3)
	if n, err := got.Body.Read(p); n != 3 || err != nil || body.asked != 3 {
		t.Fatalf("Read of 3 gave %d, %v and asked the body for %d", n, err, body.asked)
	}
	if err := got.Body.Close(); err != nil || body.closed != 1 || body.asked != 3 {
		t.Fatalf("Close: %v, closed %d times, %d bytes asked for", err, body.closed, body.asked)
	}
	if f := found(t, cache, start, 0, req); f != none {
		t.Errorf("what was closed early is stored as %q", f)
	}
}

func TestIncompleteIsNotStored(t *testing.T) {
	broken := errors.New("reset")
	for name, c := range map[string]struct {
		r      io.Reader
		length int64
		change func(*http.Response)
	}{
		"reset":                      {r: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), length: 8},
		"reset, length unknown":      {r: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), length: -1},
		"reset with the last byte":   {r: io.MultiReader(strings.NewReader("whole"), iotest.ErrReader(broken)), length: 5},
		"unexpected end":             {r: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF)), length: -1},
		"shorter than said":          {r: strings.NewReader("half"), length: 8},
		"longer than said":           {r: strings.NewReader("too much"), length: 4},
		"something where nothing is": {r: strings.NewReader("x"), length: 0},
		"ends with the connection":   {r: strings.NewReader("whole?"), length: -1, change: func(r *http.Response) { r.Close = true }},
		"a trailer announced":        {r: strings.NewReader("whole"), length: -1, change: func(r *http.Response) { r.Trailer = http.Header{"Digest": nil} }},
		"larger than an object":      {r: strings.NewReader(strings.Repeat("x", 2000)), length: -1},
		"said to be larger":          {r: strings.NewReader(strings.Repeat("x", 2000)), length: 2000},
		"reads more than there is":   {r: liar{}, length: -1},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &Cache{MaxObject: 1000}
			req, resp, _ := streamed(t, c.r, c.length)
			if c.change != nil {
				c.change(resp)
			}
			got := cache.Keep(req, resp, start)
			_, _ = got.Body.Read(make([]byte, 2000)) // liar breaks io.Copy
			_, _ = io.Copy(io.Discard, got.Body)
			_ = got.Body.Close()
			if f := found(t, cache, start, time.Hour, req); f != none {
				t.Errorf("stored as %q", f)
			}
			if recording(cache) != 0 {
				t.Errorf("%d bytes are still held for the recording", recording(cache))
			}
		})
	}
}

type liar struct{}

func (liar) Read(p []byte) (int, error) {
	if len(p) == 2000 {
		return len(p) + 1, nil
	}
	return 0, io.EOF
}

func TestCompleteIsStored(t *testing.T) {
	for name, c := range map[string]struct {
		r      io.Reader
		length int64
		change func(*http.Response)
	}{
		"length known":             {r: strings.NewReader("whole"), length: 5},
		"byte by byte":             {r: iotest.OneByteReader(strings.NewReader("whole")), length: 5},
		"end with the last byte":   {r: iotest.DataErrReader(strings.NewReader("whole")), length: 5},
		"chunked":                  {r: strings.NewReader("whole"), length: -1, change: func(r *http.Response) { r.TransferEncoding = []string{"chunked"} }},
		"chunked, then closed":     {r: strings.NewReader("whole"), length: -1, change: func(r *http.Response) { r.TransferEncoding, r.Close = []string{"chunked"}, true }},
		"HTTP/2":                   {r: strings.NewReader("whole"), length: -1, change: func(r *http.Response) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 }},
		"decompressed by the base": {r: strings.NewReader("whole"), length: 3, change: func(r *http.Response) { r.Uncompressed = true }},
	} {
		t.Run(name, func(t *testing.T) {
			cache := new(Cache)
			req, resp, body := streamed(t, c.r, c.length)
			if c.change != nil {
				c.change(resp)
			}
			if got := drain(t, cache.Keep(req, resp, start)); got != "whole" {
				t.Errorf("the caller read %q", got)
			}
			if body.closed != 1 {
				t.Errorf("the body was closed %d times", body.closed)
			}
			a, ok := cache.Find(req, 0, start)
			if !ok {
				t.Fatal("not stored")
			}
			again := a.Response(req, Outcome{})
			if again.ContentLength != 5 || again.Header.Get("Content-Length") != "5" {
				t.Errorf("lengths %d and %q, want 5", again.ContentLength, again.Header.Get("Content-Length"))
			}
			if got := drain(t, again); got != "whole" {
				t.Errorf("answered %q", got)
			}
			if recording(cache) != 0 {
				t.Errorf("%d bytes are still held for the recording", recording(cache))
			}
		})
	}
}

// Who decodes JSON stops at its last byte, and over HTTP/2 the end comes after it.
// Of a known length that is all; of another nobody knows.
func TestLastByteOfAKnownLength(t *testing.T) {
	reset := iotest.ErrReader(errors.New("reset"))
	for name, c := range map[string]struct {
		length  int64
		read    int // before Close
		rest    io.Reader
		trailer http.Header
		want    string
	}{
		"all":                        {length: 5, read: 5, want: "whole"},
		"not all":                    {length: 5, read: 4, want: none},
		"nothing":                    {length: 5, want: none},
		"all, and the end":           {length: 5, read: 6, want: "whole"},
		"all, then a reset":          {length: 5, read: 6, rest: reset, want: none},
		"all, a reset nobody sees":   {length: 5, read: 5, rest: reset, want: "whole"},
		"all, then more":             {length: 5, read: 6, rest: strings.NewReader("!"), want: none},
		"unknown length":             {length: -1, read: 5, want: none},
		"trailers that were to come": {length: 5, read: 5, trailer: http.Header{"Digest": nil}, want: none},
	} {
		t.Run(name, func(t *testing.T) {
			cache := new(Cache)
			if c.rest == nil {
				c.rest = strings.NewReader("")
			}
			req, resp, body := streamed(t, io.MultiReader(strings.NewReader("whole"), c.rest), c.length)
			resp.Trailer = c.trailer
			var fates []Fate
			got := cache.KeepAnd(req, resp, cache.Stamp(req), start, func(f Fate) { fates = append(fates, f) })
			for i := range c.read {
				if n, err := got.Body.Read(make([]byte, 1)); n != 1 && i < 5 {
					t.Fatalf("byte %d: %d, %v", i, n, err)
				}
			}
			for range 2 {
				if err := got.Body.Close(); err != nil {
					t.Error(err)
				}
			}
			if f := found(t, cache, start, 0, req); f != c.want {
				t.Errorf("found %q, want %q", f, c.want)
			}
			if stored := len(fates) == 1 && fates[0] == Stored; len(fates) != 1 || stored != (c.want != none) || recording(cache) != 0 || body.closed != 2 {
				t.Errorf("told %v, %d bytes held, closed %d times", fates, recording(cache), body.closed)
			}
		})
	}
}

// 101 bodies are also writers; a wrapper would take that away.
func TestSwitchingProtocolsIsNotTouched(t *testing.T) {
	req := get(t, page, "Connection: Upgrade", "Upgrade: websocket")
	here, there := net.Pipe()
	defer there.Close()
	resp := response(t, req, http.StatusSwitchingProtocols, "")
	resp.Body = here
	got := new(Cache).Keep(req, resp, start)
	if _, ok := got.Body.(io.Writer); !ok || got != resp {
		t.Error("the body lost its Write")
	}
	got.Body.Close()
}

type panicky struct{ times int }

func (r *panicky) Read(p []byte) (int, error) {
	r.times++
	switch r.times {
	case 1:
		return copy(p, "one"), nil
	case 2:
		panic("broken body")
	case 3:
		return copy(p, "three"), nil
	}
	return 0, io.EOF
}

func TestPanicInRead(t *testing.T) {
	cache := new(Cache)
	req, resp, _ := streamed(t, &panicky{}, -1)
	got := cache.Keep(req, resp, start)
	p := make([]byte, 64)
	_, _ = got.Body.Read(p)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = got.Body.Read(p)
	}()
	_, _ = io.Copy(io.Discard, got.Body)
	got.Body.Close()
	if f := found(t, cache, start, 0, req); f != none {
		t.Errorf("a body with a hole is stored as %q", f)
	}
	if recording(cache) != 0 {
		t.Errorf("%d bytes are still held", recording(cache))
	}
}

// An unannounced trailer is written by net/http into the response it made.
func TestTrailersArrive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n5\r\nwhole\r\n0\r\nX-Late: yes\r\n\r\n")
	}))
	defer server.Close()
	cache := new(Cache)
	req := get(t, server.URL)
	resp, err := server.Client().Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	got := cache.Keep(req, resp, start)
	if drain(t, got) != "whole" || got.Trailer.Get("X-Late") != "yes" {
		t.Errorf("trailers %v, want X-Late", got.Trailer)
	}
	if f := found(t, cache, start, 0, req); f != none {
		t.Errorf("stored without its trailer: %q", f)
	}
}

// An answer asked for before an invalidation and read to its end after it.
func TestInvalidatedWhileRead(t *testing.T) {
	cache := new(Cache)
	req := get(t, page)
	resp := cache.Keep(req, response(t, req, 200, "before the change", "Cache-Control: max-age=60"), start)
	put := request(t, "PUT", page)
	cache.Invalidate(put, response(t, put, 204, ""))
	drain(t, resp)
	if f := found(t, cache, start, time.Hour, req); f != none {
		t.Errorf("stored after the invalidation: %q", f)
	}
}

func TestManyKeepTheSame(t *testing.T) {
	cache := new(Cache)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				body := strings.Repeat(string(rune('a'+i)), 100+j)
				req := get(t, page)
				_, _ = io.Copy(io.Discard, cache.Keep(req, response(t, req, 200, body, "Cache-Control: max-age=60"), start).Body)
				a, ok := cache.Find(req, 0, start)
				if !ok {
					t.Error("nothing is found after it was stored")
					return
				}
				b, _ := io.ReadAll(a.Response(req, Outcome{}).Body)
				if strings.Trim(string(b), string(b[:1])) != "" {
					t.Errorf("a mixed answer: %q", b)
				}
				if i == 0 && j%10 == 0 {
					cache.Invalidate(request(t, "PUT", page+"&other"), response(t, req, 200, ""))
				}
			}
		})
	}
	wg.Wait()
	if recording(cache) != 0 {
		t.Errorf("%d bytes are still held", recording(cache))
	}
}

func TestCloseBesideRead(t *testing.T) {
	cache := new(Cache)
	for i := range 200 {
		req, resp, _ := streamed(t, nil, []int64{-1, 700}[i%2])
		resp.Body = io.NopCloser(iotest.OneByteReader(strings.NewReader(strings.Repeat("x", 700))))
		got := cache.Keep(req, resp, start)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, got.Body) })
		wg.Go(func() { got.Body.Close() })
		wg.Wait()
		if f := found(t, cache, start, 0, req); f != none && len(f) != 700 {
			t.Fatalf("stored in part: %d bytes", len(f))
		}
	}
	if recording(cache) != 0 {
		t.Errorf("%d bytes are still held", recording(cache))
	}
}

// Bodies that nobody reads to the end or closes give their room back when
// they are collected.
func TestForgottenBodies(t *testing.T) {
	cache := new(Cache)
	func() {
		for range 10 {
			req, resp, _ := streamed(t, strings.NewReader("0123456789"), 10)
			_, _ = cache.Keep(req, resp, start).Body.Read(make([]byte, 5))
		}
	}()
	if recording(cache) == 0 {
		t.Fatal("ten recordings hold nothing")
	}
	deadline := time.Now().Add(10 * time.Second)
	for recording(cache) != 0 && time.Now().Before(deadline) {
		runtime.GC() // cleanups run on a goroutine of the runtime's
	}
	if recording(cache) != 0 {
		t.Errorf("%d bytes are still held", recording(cache))
	}
}
