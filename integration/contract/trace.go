package contract

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
)

var tracePoints = []Point{
	{Name: "httptrace hears what it hears of the bare base", Test: traced},
	{Name: "1xx responses reach httptrace", Test: informed},
	{Name: "Expect: 100-continue", Test: continued},
}

// trace notes events by name.
type trace struct {
	mu     sync.Mutex
	events []string
	idle   chan struct{} // closed by PutIdleConn
	wrote  chan struct{} // closed by WroteRequest
}

func newTrace() *trace {
	return &trace{idle: make(chan struct{}), wrote: make(chan struct{})}
}

func (tr *trace) note(event string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.events = append(tr.events, event)
}

func (tr *trace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { tr.note("GetConn") },
		GotConn: func(i httptrace.GotConnInfo) {
			tr.note("GotConn")
			if i.Reused {
				tr.note("reused")
			}
		},
		ConnectStart:         func(string, string) { tr.note("ConnectStart") },
		ConnectDone:          func(_, _ string, err error) { tr.note("ConnectDone " + kind(err)) },
		TLSHandshakeStart:    func() { tr.note("TLSHandshakeStart") },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { tr.note("TLSHandshakeDone") },
		GotFirstResponseByte: func() { tr.note("GotFirstResponseByte") },
		Got100Continue:       func() { tr.note("Got100Continue") },
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			tr.note(http.StatusText(code) + " " + h.Get("Link"))
			return nil
		},
		Wait100Continue:  func() { tr.note("Wait100Continue") },
		WroteHeaderField: func(k string, v []string) { tr.note("field " + k + "=" + strings.Join(v, ",")) },
		WroteHeaders:     func() { tr.note("WroteHeaders") },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			tr.note("WroteRequest " + kind(i.Err))
			close(tr.wrote)
		},
		PutIdleConn: func(err error) {
			tr.note("PutIdleConn " + kind(err))
			close(tr.idle)
		},
	}
}

// traced sends two requests over one connection. Events come from several
// goroutines: their order is not compared, but that each came and how often.
func traced(t *T) {
	for _, url := range []string{t.up.url, t.up.tls} {
		run := func(rt http.RoundTripper, say func(string, ...any)) {
			for range 2 {
				tr := newTrace()
				req := t.request("POST", url+"/echo", strings.NewReader("body"))
				resp, err := t.do(rt, req.WithContext(httptrace.WithClientTrace(req.Context(), tr.hooks())))
				if err != nil {
					t.Fatalf("%v", err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				t.within("the request", func() { <-tr.wrote })
				if url == t.up.url {
					t.within("the connection's return", func() { <-tr.idle })
				}
				tr.mu.Lock()
				events := slices.Clone(tr.events)
				tr.mu.Unlock()
				slices.Sort(events)
				for _, e := range slices.DeleteFunc(events, func(e string) bool { return t.adds(e) }) {
					say("%s", e)
				}
			}
		}
		if url == t.up.url {
			t.same("HTTP/1.1", run)
		} else {
			t.same2("HTTP/2", run)
		}
	}
}

// adds says whether an event is about a field that policy adds.
func (t *T) adds(event string) bool {
	return slices.ContainsFunc(t.o.Adds, func(k string) bool {
		return strings.HasPrefix(strings.ToLower(event), "field "+strings.ToLower(k)+"=")
	})
}

// informed: in order, and before the response.
func informed(t *T) {
	for _, url := range []string{t.up.url, t.up.tls} {
		tr := newTrace()
		hooks := &httptrace.ClientTrace{Got1xxResponse: tr.hooks().Got1xxResponse}
		req := t.request("GET", url+"/hints", nil)
		resp, err := t.do(t.wrap(t.up.h2), req.WithContext(httptrace.WithClientTrace(req.Context(), hooks)))
		if err != nil {
			t.Fatalf("%v", err)
		}
		data, err := io.ReadAll(resp.Body)
		if string(data) != "after hints" || resp.StatusCode != 200 {
			t.Errorf("after the hints: %d %q, %v", resp.StatusCode, data, err)
		}
		tr.mu.Lock()
		if want := []string{"Early Hints </a>; rel=preload", "Processing </a>; rel=preload"}; !slices.Equal(tr.events, want) {
			t.Errorf("%s: 1xx %q, want %q", url, tr.events, want)
		}
		tr.mu.Unlock()
	}
}

// continued: the body goes out only when the server asks for it.
func continued(t *T) {
	for path, sent := range map[string]bool{"/echo": true, "/refuse": false} {
		t.same(path, func(rt http.RoundTripper, say func(string, ...any)) {
			tr := newTrace()
			all := tr.hooks()
			hooks := &httptrace.ClientTrace{Wait100Continue: all.Wait100Continue, Got100Continue: all.Got100Continue}
			read := false
			body := t.body("Expect at "+path, io.MultiReader(atEnd(func() { read = true }), strings.NewReader("body")))
			req := t.request("PUT", t.up.url+path, body)
			req.ContentLength = 4
			req.Header.Set("Expect", "100-continue")
			resp, err := t.do(rt, req.WithContext(httptrace.WithClientTrace(req.Context(), hooks)))
			t.describe(resp, err, say)
			late, cancel := context.WithTimeout(context.Background(), t.patience/5)
			defer cancel()
			body.verdict(t, late) // nobody reads it any more
			if read != sent {
				t.Errorf("%s: the body was read: %t, want %t", path, read, sent)
			}
			tr.mu.Lock()
			defer tr.mu.Unlock()
			slices.Sort(tr.events) // two goroutines tell of them
			say("%q", tr.events)
		})
	}
}
