package contract

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Upstream is the server that the points call, over HTTP/1.1 and, with TLS,
// HTTP/2.
type Upstream struct {
	url, tls string
	servers  []*httptest.Server
	h2       *http.Transport // trusts the TLS server; shared, a handshake is slow

	mu    sync.Mutex
	gates map[string]*gate
	bare  map[string][]string // transcripts of the bare transport
	ids   int
}

// Start starts one. Close it.
func Start() *Upstream {
	u := &Upstream{gates: map[string]*gate{}, bare: map[string][]string{}}
	plain, secure := httptest.NewUnstartedServer(u), httptest.NewUnstartedServer(u)
	plain.Start()
	secure.EnableHTTP2 = true
	secure.StartTLS()
	u.servers = []*httptest.Server{plain, secure}
	u.url, u.tls = plain.URL, secure.URL
	u.h2 = secure.Client().Transport.(*http.Transport)
	return u
}

// Close ends it and its connections.
func (u *Upstream) Close() {
	u.h2.CloseIdleConnections()
	for _, s := range u.servers {
		s.CloseClientConnections()
		s.Close()
	}
}

// gate is one exchange: its requests are counted by their "id" parameter, and
// its answer can be held back.
type gate struct {
	seen             int
	arrived, release chan struct{}
}

// URL of the HTTP/1.1 server, without a path.
func (u *Upstream) URL() string { return u.url }

// id makes one.
func (u *Upstream) id() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids++
	id := strconv.Itoa(u.ids)
	u.gates[id] = &gate{arrived: make(chan struct{}), release: make(chan struct{})}
	return id
}

// release lets the handlers of an exchange go on.
func (u *Upstream) release(id string) { close(u.gate(id).release) }

// arrival is closed when the first request of an exchange has come.
func (u *Upstream) arrival(id string) <-chan struct{} { return u.gate(id).arrived }

// requests of an exchange so far.
func (u *Upstream) requests(id string) int {
	g := u.gate(id)
	u.mu.Lock()
	defer u.mu.Unlock()
	return g.seen
}

func (u *Upstream) gate(id string) *gate {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.gates[id]
}

// note counts a request.
func (u *Upstream) note(id string) {
	if g := u.gate(id); g != nil {
		u.mu.Lock()
		if g.seen++; g.seen == 1 {
			close(g.arrived)
		}
		u.mu.Unlock()
	}
}

// oracle gives the transcript of an exchange over the bare transport.
func (u *Upstream) oracle(of string, run func() []string) []string {
	u.mu.Lock()
	lines, ok := u.bare[of]
	u.mu.Unlock()
	if ok {
		return lines
	}
	lines = run()
	u.mu.Lock()
	u.bare[of] = lines
	u.mu.Unlock()
	return lines
}

// ServeHTTP does what the path says.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	u.note(id)
	flush := func() { http.NewResponseController(w).Flush() }
	if r.Method == http.MethodConnect {
		tunnel(w)
		return
	}
	switch r.URL.Path {
	case "/status":
		status(w, r)
	case "/gzip":
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, strings.Repeat("squeezed ", 100))
		z.Close()
	case "/chunked":
		io.WriteString(w, "in ")
		flush()
		io.WriteString(w, "pieces")
	case "/trailers":
		data, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Sum")
		fmt.Fprintf(w, "%s then %s", data, fields(r.Trailer))
		w.Header().Set("Sum", "42")
		w.Header().Set(http.TrailerPrefix+"Late", "said late")
	case "/hints":
		w.Header().Set("Link", "</a>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		w.Header().Set("Link", "</b>")
		io.WriteString(w, "after hints")
	case "/upgrade":
		upgrade(w)
	case "/refuse": // without reading the body
		w.WriteHeader(http.StatusExpectationFailed)
	case "/early": // likewise, and the connection ends
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		io.WriteString(w, "too large")
	case "/hang":
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
	case "/reset":
		panic(http.ErrAbortHandler)
	case "/half":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	case "/two": // the second half waits for release
		io.WriteString(w, "first ")
		flush()
		select {
		case <-u.gate(id).release:
		case <-r.Context().Done():
		}
		io.WriteString(w, "second")
	case "/down":
		n, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
		io.CopyN(w, zeros{}, n)
	case "/up":
		n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r.Body}, make([]byte, 32<<10))
		fmt.Fprintf(w, "%d %v", n, err)
	case "/duplex":
		http.NewResponseController(w).EnableFullDuplex()
		flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); flush() {
			fmt.Fprintf(w, "heard %s\n", lines.Text())
		}
	default:
		echo(w, r)
	}
}

// echo says what the server sees of a request.
func echo(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	w.Header().Set("Set-Cookie", "a=b; Path=/")
	http.NewResponseController(w).Flush() // no length: it is different where policy adds a field
	fmt.Fprintf(w, "%s %s %s\nHost: %s\nlength %d %q close %t\n%s\nbody %d %x %v\n%s",
		r.Method, r.RequestURI, r.Proto, r.Host, r.ContentLength, r.TransferEncoding, r.Close,
		fields(r.Header), len(data), sha256.Sum256(data), err, fields(r.Trailer))
}

// fields in order, one a line.
func fields(h http.Header) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(h)) {
		fmt.Fprintf(&b, "%s: %q\n", k, h[k])
	}
	return b.String()
}

func status(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("to") {
		w.Header()["Location"] = []string{r.URL.Query().Get("to")}
	}
	code, _ := strconv.Atoi(r.URL.Query().Get("code"))
	w.WriteHeader(code)
	if code >= 200 && code != http.StatusNoContent && code != http.StatusNotModified {
		fmt.Fprintf(w, "this is %d", code)
	}
}

// tunnel answers CONNECT and then repeats each line.
func tunnel(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusNotImplemented)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 200 Connected\r\n\r\n")
	repeat(conn, rw.Reader)
}

// upgrade switches to a protocol in which each line is repeated.
func upgrade(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusNotImplemented)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: repeat\r\n\r\n")
	repeat(conn, rw.Reader)
}

func repeat(w io.Writer, r *bufio.Reader) {
	lines := textproto.NewReader(r)
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return
		}
		fmt.Fprintf(w, "heard %s\n", line)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
