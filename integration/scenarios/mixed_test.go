package scenarios

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// mix is what the upstream of TestNothingIsLeft is asked for, evenly.
var mix = []string{"200", "200", "cacheable", "503", "503-long", "429", "204", "reset", "reset-late", "stall", "silent", "half", "early", "redirect"}

// misbehave is that upstream.
func misbehave(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Query().Get("kind")
	if kind != "early" {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the server does not watch a connection that broke in the body
		}
	}
	switch kind {
	case "cacheable": // every other time
		if w.Header().Set("Cache-Control", "max-age=0"); flip.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "good")
	case "503":
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "sorry")
	case "503-long":
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, strings.Repeat("x", 100<<10))
	case "429":
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	case "204":
		w.WriteHeader(http.StatusNoContent)
	case "reset":
		reset(w, "")
	case "reset-late":
		body := "half"
		if r.Method == http.MethodHead {
			body = ""
		}
		reset(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"+body)
	case "stall": // no headers
		<-r.Context().Done()
	case "silent": // headers and then nothing
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "x")
		http.NewResponseController(w).Flush()
		if r.Method != http.MethodHead { // that has all it wants, and its connection is used again
			<-r.Context().Done()
		}
	case "half":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	case "early": // the body is not read
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case "redirect":
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	default:
		io.WriteString(w, "fine")
	}
}

var flip atomic.Int64

// reset ends the connection with a TCP reset.
func reset(w http.ResponseWriter, after string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	io.WriteString(conn, after)
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// watch is a base that counts what is open on it.
type watch struct {
	base       *http.Transport
	busy, open atomic.Int64
}

func (w *watch) CloseIdleConnections() { w.base.CloseIdleConnections() }

func (w *watch) RoundTrip(req *http.Request) (*http.Response, error) {
	w.busy.Add(1)
	defer w.busy.Add(-1)
	resp, err := w.base.RoundTrip(req)
	if err == nil && resp.Body != http.NoBody {
		w.open.Add(1)
		resp.Body = &watchedBody{ReadCloser: resp.Body, closed: func() { w.open.Add(-1) }}
	}
	return resp, err
}

// watchedBody tells of its first Close.
type watchedBody struct {
	io.ReadCloser
	closed func()
	once   sync.Once
}

func (b *watchedBody) Close() error {
	b.once.Do(b.closed)
	return b.ReadCloser.Close()
}

// newRequestBody makes one that is counted until it is closed, without a
// GetBody.
func newRequestBody(open *atomic.Int64) io.Reader {
	open.Add(1)
	return &watchedBody{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat("b", 1000))), closed: func() { open.Add(-1) }}
}
