package contract

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
)

var streamPoints = []Point{
	{Name: "101 keeps its writable body", Test: switched},
	{Name: "CONNECT is a tunnel", Test: connected},
	{Name: "a response is not read ahead", Test: notAhead},
	{Name: "both directions at once", Test: duplex},
	{Name: "trailers both ways", Test: trailers},
	{Name: "huge bodies stream in bounded memory", Heavy: true, Test: huge},
}

// talk sends lines over w and wants each to be repeated on r before the next.
func (t *T) talk(what string, w io.Writer, r io.Reader) {
	lines := bufio.NewReader(r)
	for i := range 3 {
		var got string
		var err error
		t.within(what, func() {
			fmt.Fprintf(w, "line %d\n", i)
			got, err = lines.ReadString('\n')
		})
		if want := fmt.Sprintf("heard line %d\n", i); got != want {
			t.Fatalf("%s: got %q, %v, want %q", what, got, err, want)
		}
	}
}

func switched(t *T) {
	t.same("101", func(rt http.RoundTripper, say func(string, ...any)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		req := t.requestWith(ctx, "GET", t.up.url+"/upgrade", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "repeat")
		resp, err := t.do(rt, req)
		t.describe(resp, err, say)
		rw, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			t.Fatalf("the body of a 101 is a %T, which cannot be written", resp.Body)
		}
		t.talk("101", rw, rw)
		say("closing gives %v", rw.Close())
		_, err = rw.Write([]byte("x\n"))
		say("a Write after Close, an error %t", err != nil)
	})
}

func connected(t *T) {
	t.same("CONNECT", func(rt http.RoundTripper, say func(string, ...any)) {
		r, w := io.Pipe()
		req := t.request(http.MethodConnect, t.up.url, t.body("CONNECT", r))
		resp, err := t.do(rt, req)
		if err != nil {
			t.Fatalf("CONNECT: %v", err)
		}
		say("status %q, length %d, header %s", resp.Status, resp.ContentLength, fields(resp.Header))
		t.talk("CONNECT", w, resp.Body)
		w.Close()
		resp.Body.Close()
	})
}

// notAhead: the beginning of a response is there before its end is written.
func notAhead(t *T) {
	for _, url := range []string{t.up.url, t.up.tls} {
		rt := t.wrap(t.up.h2)
		id := t.up.id()
		resp, err := t.do(rt, t.request("GET", url+"/two?id="+id, nil))
		if err != nil {
			t.Fatalf("%v", err)
		}
		first := make([]byte, len("first "))
		t.within("reading the first half", func() { io.ReadFull(resp.Body, first) })
		t.up.release(id)
		rest, err := io.ReadAll(resp.Body)
		if got := string(first) + string(rest); got != "first second" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// duplex: the request body goes on while the response comes.
func duplex(t *T) {
	for what, url := range map[string]string{"HTTP/1.1": t.up.url, "HTTP/2": t.up.tls} {
		r, w := io.Pipe()
		req := t.request("POST", url+"/duplex", t.body(what, r))
		resp, err := t.do(t.wrap(t.up.h2), req)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			w.Close()
			continue
		}
		t.talk(what, w, resp.Body)
		w.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Errorf("%s: the end of the response: %v", what, err)
		}
	}
}

// trailers of the request are filled in while its body is read.
func trailers(t *T) {
	for _, url := range []string{t.up.url, t.up.tls} {
		t.same2(url, func(rt http.RoundTripper, say func(string, ...any)) {
			req := t.request("POST", url+"/trailers", nil)
			req.Trailer = http.Header{"Digest": nil}
			sum := sha256.New()
			req.Body = t.body("trailers", io.TeeReader(strings.NewReader("summed"), sum))
			req.Body.(*upload).Reader = io.MultiReader(req.Body.(*upload).Reader, atEnd(func() {
				req.Trailer.Set("Digest", fmt.Sprintf("%x", sum.Sum(nil)))
			}))
			req.ContentLength = -1
			resp, err := t.do(rt, req)
			t.describe(resp, err, say)
		})
	}
}

// atEnd is an empty reader that does something when it is read.
type atEnd func()

func (f atEnd) Read([]byte) (int, error) { f(); return 0, io.EOF }

// huge: what is allocated does not grow with what is moved.
func huge(t *T) {
	const size, most = 64 << 20, 16 << 20 // a cache may keep some
	rt := t.wrap(t.base())
	allocated := func(what string, f func()) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > most {
			t.Errorf("%s: %d MiB were allocated for %d MiB", what, n>>20, size>>20)
		}
	}
	allocated("a response", func() {
		resp, err := t.do(rt, t.request("GET", fmt.Sprintf("%s/down?n=%d", t.up.url, size), nil))
		if err != nil {
			t.Fatalf("%v", err)
		}
		var n int64
		t.within("a huge response", func() { n, err = io.Copy(io.Discard, resp.Body) })
		if n != size || err != nil {
			t.Errorf("a huge response: %d bytes, %v", n, err)
		}
	})
	for _, method := range []string{"POST", "PUT"} { // with and without another attempt in prospect
		for _, again := range []bool{false, true} {
			allocated(method, func() {
				fresh := func() io.Reader { return io.LimitReader(zeros{}, size) }
				req := t.request(method, t.up.url+"/up", t.body("a huge request", fresh()))
				if again {
					t.replayable(req, "a huge request", fresh)
				}
				resp, err := t.do(rt, req)
				if err != nil {
					t.Fatalf("a huge %s: %v", method, err)
				}
				if data, _ := io.ReadAll(resp.Body); string(data) != fmt.Sprintf("%d <nil>", size) {
					t.Errorf("a huge %s: the server read %s", method, data)
				}
			})
		}
	}
}
