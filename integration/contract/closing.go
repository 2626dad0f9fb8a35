package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

var closingPoints = []Point{
	{Name: "the request body is closed once", Closes: true, Test: closedOnce},
	{Name: "the request body is closed once on refusals", Closes: true, Test: closedOnRefusal},
	{Name: "the request body is closed once after a panic or a broken base", Beyond: true, Closes: true, Test: closedAfterPanic},
	{Name: "CloseIdleConnections is forwarded and not called", Test: closeIdle},
}

// ending is one way for an exchange to end.
type ending struct {
	name   string
	base   roundTrip // nil: the real one
	url    string    // or a path of the upstream
	change func(t *T, req *http.Request) (*http.Request, func())
	body   func() io.Reader // nil: a short one
	stays  bool             // the body does not end by itself
}

func endings(t *T) []ending {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	nobody := "http://" + closed.Addr().String() + "/"
	closed.Close()
	large := func() io.Reader { return strings.NewReader(strings.Repeat("x", 256<<10)) }
	return []ending{
		{name: "success", url: "/echo"},
		{name: "a large body", url: "/echo", body: large},
		{name: "503", url: "/status?code=503"},
		{name: "an answer before the body is read", url: "/early", body: large},
		{name: "307", url: "/status?code=307&to=/echo"},
		{name: "308 without Location", url: "/status?code=308"},
		{name: "reset", url: "/reset"},
		{name: "half an answer", url: "/half"},
		{name: "nobody listens", url: nobody},
		{name: "the body breaks", url: "/echo", body: func() io.Reader {
			return io.MultiReader(strings.NewReader("half"), broken{})
		}},
		{name: "shorter than stated", url: "/echo", change: func(_ *T, r *http.Request) (*http.Request, func()) {
			r.ContentLength = 100
			return r, nil
		}},
		{name: "longer than stated", url: "/echo", change: func(_ *T, r *http.Request) (*http.Request, func()) {
			r.ContentLength = 1
			return r, nil
		}},
		{name: "a scheme nobody speaks", url: "gopher://x/"},
		{name: "an invalid field", url: "/", change: func(_ *T, r *http.Request) (*http.Request, func()) {
			r.Header["bad field"] = []string{"x"}
			return r, nil
		}},
		{name: "no Header map", url: "/", change: func(_ *T, r *http.Request) (*http.Request, func()) {
			r.Header = nil
			return r, nil
		}},
		{name: "cancelled before", url: "/echo", change: func(_ *T, r *http.Request) (*http.Request, func()) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			return r.WithContext(ctx), nil
		}},
		{name: "cancelled while the upstream thinks", url: "/hang", change: func(_ *T, r *http.Request) (*http.Request, func()) {
			ctx, cancel := context.WithCancel(r.Context())
			return r.WithContext(ctx), cancel
		}},
		{name: "cancelled while the body is sent", url: "/up", stays: true, body: large, change: func(_ *T, r *http.Request) (*http.Request, func()) {
			ctx, cancel := context.WithCancel(r.Context())
			return r.WithContext(ctx), cancel
		}},
		{name: "the base fails", url: "/", base: failing},
		{name: "the base fails and then does not", url: "/", base: alternating()},
	}
}

// broken is a body that fails.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the body broke") }

// alternating fails every other time.
func alternating() roundTrip {
	var mu sync.Mutex
	n := 0
	return func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		n++
		odd := n%2 == 1
		mu.Unlock()
		if odd {
			return failing(req)
		}
		return fine(req)
	}
}

// closedOnce: on every ending, with and without GetBody.
func closedOnce(t *T) {
	for _, e := range endings(t) {
		for _, again := range []bool{false, true} {
			req, cancel := t.bodied(e, again)
			var base http.RoundTripper = e.base
			if e.base == nil {
				base = t.base()
			}
			if cancel != nil {
				id := t.up.id()
				req.URL.RawQuery = "id=" + id
				go func() {
					defer cancel()
					timer := time.NewTimer(t.patience / 2)
					defer timer.Stop()
					select {
					case <-t.up.arrival(id):
					case <-timer.C: // what reads a body to its end before it sends anything
					}
				}()
			}
			if resp, err := t.do(t.wrap(base), req); err == nil {
				io.Copy(io.Discard, resp.Body)
			}
		}
	}
}

// bodied makes the request of an ending.
func (t *T) bodied(e ending, again bool) (*http.Request, func()) {
	fresh := e.body
	if fresh == nil {
		fresh = func() io.Reader { return strings.NewReader("body") }
	}
	what := e.name
	if again {
		what += ", with GetBody"
	}
	url := e.url
	if strings.HasPrefix(url, "/") {
		url = t.up.url + url
	}
	body := t.body(what, fresh())
	req := t.request("PUT", url, body)
	if again {
		t.replayable(req, what, fresh)
	}
	if e.change == nil {
		return req, nil
	}
	req, end := e.change(t, req)
	if e.stays {
		body.stays = req.Context()
	}
	return req, end
}

// closedOnRefusal: our own no asks no base and closes the body.
func closedOnRefusal(t *T) {
	for name, wrap := range t.o.Refusing {
		asked := false
		rt := wrap(roundTrip(func(req *http.Request) (*http.Response, error) {
			asked = true
			return fine(req)
		}))
		for _, again := range []bool{false, true} {
			req, _ := t.bodied(ending{name: name, url: "/"}, again)
			before := photograph(req)
			resp, err := t.do(rt, req)
			if err == nil && !t.o.Answers {
				t.Errorf("%s: got %s, want a refusal", name, resp.Status)
			}
			if asked {
				t.Errorf("%s: the base was asked", name)
			}
			before.compare(t, name, req)
		}
	}
}

// closedAfterPanic: the base did not get to close it.
func closedAfterPanic(t *T) {
	read := func(req *http.Request) { io.ReadFull(req.Body, make([]byte, 2)) }
	for name, base := range map[string]roundTrip{
		"a panic":                        func(*http.Request) (*http.Response, error) { panic(errBase) },
		"a panic while the body is read": func(req *http.Request) (*http.Response, error) { read(req); panic(errBase) },
		"neither response nor error":     func(*http.Request) (*http.Response, error) { return nil, nil },
		"both response and error": func(req *http.Request) (*http.Response, error) {
			resp, _ := fine(req)
			return resp, errBase
		},
	} {
		for _, again := range []bool{false, true} {
			req, _ := t.bodied(ending{name: name, url: "/"}, again)
			before := photograph(req)
			t.within(name, func() {
				defer func() { recover() }()
				resp, err := t.wrap(base).RoundTrip(req)
				if (resp == nil) == (err == nil) {
					t.Errorf("%s: got %v and %v, want one of them", name, resp, err)
				}
				if resp != nil {
					resp.Body.Close()
				}
			})
			before.compare(t, name, req)
		}
	}
}

// idle is a base that counts CloseIdleConnections.
type idle struct {
	roundTrip
	calls int
}

func (i *idle) CloseIdleConnections() { i.calls++ }

// closeIdle: one failing upstream must not close everybody's connections.
func closeIdle(t *T) {
	bases := map[string]roundTrip{"success": fine, "failure": failing, "failure and success": alternating(), "503": func(req *http.Request) (*http.Response, error) {
		resp, err := fine(req)
		resp.StatusCode, resp.Status = 503, "503 Service Unavailable"
		return resp, err
	}}
	for name, f := range bases {
		base := &idle{roundTrip: f}
		rt := t.wrap(base)
		for range 3 {
			ctx, cancel := context.WithCancel(context.Background())
			if resp, err := t.do(rt, t.requestWith(ctx, "GET", t.up.url+"/", nil)); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			cancel()
		}
		if base.calls != 0 {
			t.Errorf("%s: it called CloseIdleConnections %d times", name, base.calls)
		}
		(&http.Client{Transport: rt}).CloseIdleConnections()
		if base.calls == 0 {
			t.Errorf("%s: CloseIdleConnections did not reach the base", name)
		}
	}
	rt := t.wrap(roundTrip(fine)) // has none
	(&http.Client{Transport: rt}).CloseIdleConnections()
	if resp, err := t.do(rt, t.request("GET", t.up.url+"/", nil)); err != nil {
		t.Errorf("after CloseIdleConnections on a base without it: %v", fmt.Sprint(resp, err))
	}
}
