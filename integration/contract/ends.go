package contract

import (
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
)

var endPoints = []Point{
	{Name: "response bodies of the base are closed", Test: responsesClosed},
	{Name: "no permit is left after anything", Test: permitsBack},
	{Name: "a base that ends its goroutine", Beyond: true, Test: goexit},
}

var panicPoints = []Point{
	{Name: "a panic of the base goes up and holds nothing", Test: panics},
	{Name: "a panic of a hook goes up and holds nothing", Beyond: true, Test: hookPanics},
}

// counted is a base that counts the response bodies that are open.
type counted struct {
	base http.RoundTripper
	open atomic.Int64
}

func (c *counted) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(req)
	if resp != nil && resp.Body != http.NoBody {
		c.open.Add(1)
		resp.Body = &countedBody{resp.Body, c, sync.Once{}}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	c    *counted
	once sync.Once
}

func (b *countedBody) Close() error {
	b.once.Do(func() { b.c.open.Add(-1) })
	return b.ReadCloser.Close()
}

// responsesClosed: those that no caller sees are closed too.
func responsesClosed(t *T) {
	for _, path := range []string{"/echo", "/status?code=503", "/half", "/reset", "/status?code=204", "/status?code=307&to=/"} {
		base := &counted{base: t.base()}
		rt := t.wrap(base)
		for range 3 {
			if resp, err := t.do(rt, t.request("GET", t.up.url+path, nil)); err == nil {
				resp.Body.Close()
			}
		}
		if n := base.open.Load(); n != 0 {
			t.Errorf("%s: %d response bodies are open", path, n)
		}
	}
}

// permitsBack: whatever the calls before came to, the next one goes through at
// once.
func permitsBack(t *T) {
	for _, path := range []string{"/status?code=503", "/half", "/reset", "/status?code=204", "/status?code=304", "/gzip", "/trailers"} {
		rt := t.wrap(t.base())
		for _, method := range []string{"GET", "HEAD", "POST"} {
			for range 2 { // more would open circuits, as they should
				if resp, err := t.do(rt, t.request(method, t.up.url+path, nil)); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		}
		t.alive(path, rt)
	}
}

// alive holds as many responses at a time as the narrowest bulkhead that the
// suite is used with has permits.
func (t *T) alive(after string, rt http.RoundTripper) {
	const permits = 4
	id := t.up.id()
	var held []*http.Response
	for range permits {
		resp, err := t.do(rt, t.request("GET", t.up.url+"/two?id="+id, nil))
		if err != nil {
			t.Errorf("after %s, with %d calls under way, the next one gives %v", after, len(held), err)
			break
		}
		held = append(held, resp)
	}
	t.up.release(id)
	for _, resp := range held {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// sometimes panics in the first few calls and then goes on to a real base.
func sometimes(base http.RoundTripper, calls int64, what func()) http.RoundTripper {
	var n atomic.Int64
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if n.Add(1) <= calls {
			what()
		}
		return base.RoundTrip(req)
	})
}

// panics: with its value as it was, because ReverseProxy and net/http compare
// it.
func panics(t *T) {
	for _, value := range []any{http.ErrAbortHandler, "text", errBase} {
		rt := t.wrap(sometimes(t.base(), 6, func() { panic(value) }))
		for i := range 6 {
			func() {
				defer func() {
					if got := recover(); got != value {
						t.Errorf("call %d: recovered %v, want %v", i, got, value)
					}
				}()
				rt.RoundTrip(t.request("GET", t.up.url+"/echo", nil))
			}()
		}
		t.alive("panics", rt)
	}
}

// hookPanics: likewise.
func hookPanics(t *T) {
	if t.o.Hooked == nil {
		return
	}
	var left atomic.Int64
	left.Store(6)
	base := &counted{base: t.base()}
	rt := t.o.Hooked(base, func() {
		if left.Add(-1) >= 0 {
			panic(errBase)
		}
	})
	for i := range 6 {
		func() {
			defer func() {
				if got := recover(); got != errBase {
					t.Errorf("call %d: recovered %v, want %v", i, got, errBase)
				}
			}()
			body := t.body("a hook that panics", &io.LimitedReader{R: zeros{}, N: 10})
			rt.RoundTrip(t.request("PUT", t.up.url+"/echo", body))
		}()
	}
	if n := base.open.Load(); n != 0 {
		t.Errorf("%d response bodies are open", n)
	}
	t.alive("panics of a hook", rt)
}

// goexit: testing's FailNow in a stub, for example.
func goexit(t *T) {
	rt := t.wrap(sometimes(t.base(), 6, runtime.Goexit))
	for range 6 {
		var wg sync.WaitGroup
		wg.Go(func() {
			body := t.body("a base that ends its goroutine", &io.LimitedReader{R: zeros{}, N: 10})
			rt.RoundTrip(t.request("PUT", t.up.url+"/echo", body))
		})
		t.within("a base that ends its goroutine", wg.Wait)
	}
	t.alive("a base that ended its goroutine", rt)
}
