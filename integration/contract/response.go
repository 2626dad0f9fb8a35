package contract

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"
)

var responsePoints = []Point{
	{Name: "responses are as from the bare base", Test: sameResponse},
	{Name: "the same over HTTP/2", Heavy: true, Test: sameResponse2},
	{Name: "resp.Request is the caller's", Test: responseRequest},
	{Name: "the last failing answer reaches the caller whole", Test: failingStatuses},
	{Name: "errors are found as from the bare base", Test: sameErrors},
	{Name: "cancels and deadlines in the body", Test: endedBodies},
	{Name: "connections are used again", Test: reuse},
}

// answers are requests and how they differ.
var answers = map[string]struct {
	method, path string
	change       func(*http.Request)
}{
	"a length":                {path: "/down?n=100"},
	"chunked":                 {path: "/chunked"},
	"decompressed":            {path: "/gzip"},
	"compressed, as asked":    {path: "/gzip", change: func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") }},
	"HEAD":                    {method: "HEAD", path: "/status?code=200"},
	"HEAD of what is gzipped": {method: "HEAD", path: "/gzip"},
	"HEAD of what is chunked": {method: "HEAD", path: "/chunked"},
	"204":                     {path: "/status?code=204"},
	"304":                     {path: "/status?code=304"},
	"201":                     {method: "POST", path: "/status?code=201&to=/made"},
	"404":                     {path: "/status?code=404"},
	"409":                     {method: "POST", path: "/status?code=409"},
	"412":                     {method: "PUT", path: "/status?code=412"},
	"451":                     {path: "/status?code=451"},
	"501":                     {path: "/status?code=501"},
	"599":                     {path: "/status?code=599"},
	"an unknown status":       {path: "/status?code=799"},
	"trailers":                {path: "/trailers"},
	"early hints":             {path: "/hints"},
	"cut off":                 {path: "/half"},
	"empty":                   {path: "/down?n=0"},
	"64 KiB":                  {path: "/down?n=65536"},
	"the connection closes":   {path: "/chunked", change: func(r *http.Request) { r.Close = true }},
}

func sameResponse(t *T) {
	for what, a := range answers {
		t.same(what, func(rt http.RoundTripper, say func(string, ...any)) {
			req := t.request(a.method, t.up.url+a.path, nil)
			if a.change != nil {
				a.change(req)
			}
			resp, err := t.do(rt, req)
			t.describe(resp, err, say)
		})
	}
}

func sameResponse2(t *T) {
	for what, a := range answers {
		t.same2(what, func(rt http.RoundTripper, say func(string, ...any)) {
			req := t.request(a.method, t.up.tls+a.path, nil)
			if a.change != nil {
				a.change(req)
			}
			if req.Close {
				return // would end the connection that all points share
			}
			resp, err := t.do(rt, req)
			if err == nil && resp.ProtoMajor != 2 {
				t.Errorf("%s: HTTP/2 became %s", what, resp.Proto)
			}
			t.describe(resp, err, say)
		})
	}
}

// responseRequest: http.Client needs it to follow redirects. The bare
// transport gives a copy over HTTP/2.
func responseRequest(t *T) {
	urls := map[string]http.RoundTripper{t.up.url: t.base()}
	if !t.o.Bare {
		urls[t.up.tls] = t.up.h2
	}
	for url, base := range urls {
		rt := t.wrap(base)
		for _, path := range []string{"/echo", "/status?code=307&to=/x", "/status?code=204", "/status?code=404", "/status?code=429"} {
			for _, body := range []io.Reader{nil, strings.NewReader("body")} {
				req := t.request("POST", url+path, body)
				resp, err := t.do(rt, req)
				if err != nil {
					continue
				}
				resp.Body.Close()
				if resp.Request != req {
					t.Errorf("%s: resp.Request is another one", path)
				}
			}
		}
	}
}

// failingStatuses: after however many attempts, what the upstream said last.
func failingStatuses(t *T) {
	for _, code := range []int{408, 429, 500, 502, 503, 504} {
		if code >= 500 && t.o.Answers {
			continue
		}
		for _, method := range []string{"GET", "POST"} {
			t.same(fmt.Sprintf("%s, %d", method, code), func(rt http.RoundTripper, say func(string, ...any)) {
				var body io.Reader
				if method == "POST" {
					body = t.body(fmt.Sprint(code), strings.NewReader("body"))
				}
				resp, err := t.do(rt, t.request(method, fmt.Sprintf("%s/status?code=%d", t.up.url, code), body))
				t.describe(resp, err, say)
			})
		}
	}
}

// sameErrors: what errors.Is and Timeout say of them.
func sameErrors(t *T) {
	if t.o.Answers {
		return
	}
	for _, e := range endings(t) {
		if e.url != "/reset" && !strings.HasPrefix(e.url, "http://127") {
			continue
		}
		t.same(e.name, func(rt http.RoundTripper, say func(string, ...any)) {
			target := e.url
			if strings.HasPrefix(target, "/") {
				target = t.up.url + target
			}
			resp, err := t.do(rt, t.request("POST", target, strings.NewReader("body")))
			t.describe(resp, err, say)
		})
	}
	for what, begin := range enders {
		t.same(what+" before", func(rt http.RoundTripper, say func(string, ...any)) {
			ctx, end := begin(t)
			end()
			resp, err := t.do(rt, t.requestWith(ctx, "GET", t.up.url+"/hang", nil))
			t.describe(resp, err, say)
		})
		t.same(what+" while the upstream thinks", func(rt http.RoundTripper, say func(string, ...any)) {
			ctx, end := begin(t)
			id := t.up.id()
			go func() {
				select {
				case <-t.up.arrival(id):
				case <-ctx.Done():
				}
				end()
			}()
			resp, err := t.do(rt, t.requestWith(ctx, "GET", t.up.url+"/hang?id="+id, nil))
			t.describe(resp, err, say)
		})
	}
	t.same("Request.Cancel", func(rt http.RoundTripper, say func(string, ...any)) {
		id := t.up.id()
		req := t.request("GET", t.up.url+"/hang?id="+id, nil)
		cancel := make(chan struct{})
		req.Cancel = cancel //lint:ignore SA1019 old callers use it
		go func() { <-t.up.arrival(id); close(cancel) }()
		resp, err := t.do(rt, req)
		say("a response %t, an error %t", resp != nil, err != nil)
	})
}

// enders make contexts and what ends them.
var enders = map[string]func(t *T) (context.Context, func()){
	"a cancel": func(*T) (context.Context, func()) { return context.WithCancel(context.Background()) },
	"a cancel with a cause": func(*T) (context.Context, func()) {
		ctx, cancel := context.WithCancelCause(context.Background())
		return ctx, func() { cancel(errCause) }
	},
	"a deadline": func(t *T) (context.Context, func()) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond)
		t.cleanup(cancel)
		return ctx, func() { <-ctx.Done() }
	},
	"a deadline with a cause": func(t *T) (context.Context, func()) {
		ctx, cancel := context.WithTimeoutCause(context.Background(), 2*time.Millisecond, errCause)
		t.cleanup(cancel)
		return ctx, func() { <-ctx.Done() }
	},
}

// endedBodies: the caller ends the call while it reads.
func endedBodies(t *T) {
	for what, begin := range enders {
		if strings.Contains(what, "deadline") {
			continue // may strike before the headers
		}
		t.same(what, func(rt http.RoundTripper, say func(string, ...any)) {
			ctx, end := begin(t)
			id := t.up.id()
			resp, err := t.do(rt, t.requestWith(ctx, "GET", t.up.url+"/two?id="+id, nil))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			first := make([]byte, len("first "))
			_, err = io.ReadFull(resp.Body, first)
			say("%q (%s)", first, kind(err))
			end()
			t.within("reading on", func() { _, err = io.ReadAll(resp.Body) })
			say("then %s", kind(err))
			say("closing gives %v", resp.Body.Close())
		})
	}
	t.same("Close during Read", func(rt http.RoundTripper, say func(string, ...any)) {
		resp, err := t.do(rt, t.request("GET", t.up.url+"/two?id="+t.up.id(), nil))
		if err != nil {
			t.Fatalf("%v", err)
		}
		io.ReadFull(resp.Body, make([]byte, len("first ")))
		done := make(chan error)
		go func() {
			_, err := resp.Body.Read(make([]byte, 1))
			done <- err
		}()
		t.within("closing while a Read waits", func() { resp.Body.Close(); err = <-done })
		say("the Read ended, an error %t", err != nil)
	})
}

// reuse: reading to the end and closing gives the connection back.
func reuse(t *T) {
	t.same("20 requests", func(rt http.RoundTripper, say func(string, ...any)) {
		ports := map[string]bool{}
		for i := range 20 {
			req := t.request("POST", t.up.url+"/echo", strings.NewReader("body"))
			ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
				GotConn: func(i httptrace.GotConnInfo) { ports[i.Conn.LocalAddr().String()] = true },
			})
			resp, err := t.do(rt, req.WithContext(ctx))
			if err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		say("%d connections", len(ports))
	})
}
