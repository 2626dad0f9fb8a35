package fallbackcache

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// What real servers send and real connections do, through net/http.
func TestOverTheNetwork(t *testing.T) {
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err) // reaches the caller as a failed request
			}
			defer conn.Close()
			fmt.Fprint(conn, text)
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		http2   bool
		read    string // "" if reading is to fail
		stored  bool
	}{
		"length known": {handler: func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "good") }, read: "good", stored: true},
		"chunked": {handler: func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "go")
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, "od")
		}, read: "good", stored: true},
		"HTTP/2 without a length": {http2: true, handler: func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "go")
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, "od")
		}, read: "good", stored: true},
		"compressed unasked by the caller": {handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", r.Header.Get("Accept-Encoding"))
			z := gzip.NewWriter(w)
			fmt.Fprint(z, "good")
			z.Close()
		}, read: "good", stored: true},
		"cut off in a length":     {handler: raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ngood")},
		"cut off in a chunk":      {handler: raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ngood")},
		"cut off between chunks":  {handler: raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n")},
		"cut off in the trailers": {handler: raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\nX-A")},
		"HTTP/2 reset": {http2: true, handler: func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "good")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		"ended by the connection":    {handler: raw("HTTP/1.1 200 OK\r\n\r\ngood"), read: "good"},
		"ended by it, from HTTP/1.0": {handler: raw("HTTP/1.0 200 OK\r\n\r\ngood"), read: "good"},
		"HTTP/1.0 with a length":     {handler: raw("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood"), read: "good", stored: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(c.handler)
			server.EnableHTTP2 = c.http2
			if c.http2 {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			cache := new(Cache)
			req := get(t, server.URL)
			resp, err := server.Client().Transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if c.http2 && resp.ProtoMajor != 2 {
				t.Fatalf("the server speaks %s", resp.Proto)
			}
			resp = cache.Keep(req, resp, time.Now())
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if (err != nil) != (c.read == "") || err == nil && string(got) != c.read {
				t.Fatalf("the caller read %q, %v, want %q", got, err, c.read)
			}
			want := none
			if c.stored {
				want = c.read
			}
			if got := found(t, cache, time.Now(), time.Hour, get(t, server.URL)); got != want {
				t.Errorf("answered %q, want %q", got, want)
			}
			if c.stored {
				if h := answer(t, cache, req, time.Now(), Outcome{}).Header; h.Get("Content-Encoding") != "" {
					t.Errorf("a decoded body is called %q", h.Get("Content-Encoding"))
				}
			}
		})
	}
}
