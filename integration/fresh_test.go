package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// said is what the origin answers: body and fields ("Name: value"). Nil: it is
// not to be asked.
type said struct {
	status int // 0: 200
	body   string
	fields []string
	broken bool // the connection ends instead
}

// step is one request through the proxy.
type step struct {
	method string // empty: GET
	path   string // below the case's own
	asks   []string
	origin *said

	status  int      // 0: the origin's, or 200
	body    string   // what the client gets
	has     []string // fields of the response, "Name: value", or "Name:" for none
	sent    []string // the same of the request that the origin got
	settles bool     // wait for a revalidation in the background, which the origin answers as in behind
	behind  *said

	extended *step // what differs where max_stale is an hour
}

// say is an origin's answer.
func say(body string, fields ...string) *said { return &said{body: body, fields: fields} }

func sayStatus(status int, body string, fields ...string) *said {
	return &said{status: status, body: body, fields: fields}
}

// reaching is a step that reaches the origin, cached one that does not.
func reaching(s *said, asks ...string) step   { return step{origin: s, body: s.body, asks: asks} }
func cached(body string, asks ...string) step { return step{body: body, asks: asks} }

func (s step) having(fields ...string) step        { s.has = fields; return s }
func (s step) sending(fields ...string) step       { s.sent = fields; return s }
func (s step) by(method string) step               { s.method = method; return s }
func (s step) at(path string) step                 { s.path = path; return s }
func (s step) giving(status int, body string) step { s.status, s.body = status, body; return s }
func (s step) then(behind *said) step              { s.settles, s.behind = true, behind; return s }

// orStale is what the client gets where the operator extends the window.
func (s step) orStale(body string) step {
	other := s
	other.status, other.body, other.has = 200, body, nil
	s.extended = &other
	return s
}

// origin answers as the step under way says, and remembers what it was asked.
type origin struct {
	mu     sync.Mutex
	next   []*said
	asked  []*http.Request
	server *httptest.Server
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.asked = append(o.asked, r)
	var s *said
	if len(o.next) > 0 {
		s, o.next = o.next[0], o.next[1:]
	}
	o.mu.Unlock()
	if s == nil {
		w.WriteHeader(http.StatusTeapot) // it should not have been asked
		return
	}
	if s.broken {
		panic(http.ErrAbortHandler)
	}
	w.Header()["Date"] = nil // unless it is said
	for _, f := range s.fields {
		name, value, _ := strings.Cut(f, ": ")
		w.Header()[http.CanonicalHeaderKey(name)] = append(w.Header()[http.CanonicalHeaderKey(name)], value)
	}
	status := s.status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	io.WriteString(w, s.body)
}

func (o *origin) expects(said ...*said) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next, o.asked = nil, nil
	for _, s := range said {
		if s != nil {
			o.next = append(o.next, s)
		}
	}
}

func (o *origin) requests() []*http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

// throughProxy is a client of a ReverseProxy that has our transport, before an
// origin.
type throughProxy struct {
	origin *origin
	base   *http.Transport
	url    string
	client *http.Client
	behind chan transport.Event // revalidations that are over
}

func newThroughProxy(t *testing.T, maxStale time.Duration) *throughProxy {
	t.Helper()
	p := &throughProxy{origin: new(origin), behind: make(chan transport.Event, 10)}
	quiet := log.New(io.Discard, "", 0)
	p.origin.server = httptest.NewUnstartedServer(p.origin)
	p.origin.server.Config.ErrorLog = quiet
	p.origin.server.Start()
	t.Cleanup(p.origin.server.Close)
	set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"origin": {
		Match:          []policies.Match{{Host: "127.0.0.1"}},
		Retry:          &policies.Retry{Disabled: true},
		CircuitBreaker: &policies.CircuitBreaker{Disabled: true},
		Fallback:       &policies.Fallback{Stale: &policies.Stale{MaxStale: maxStale, ServeFresh: true, After: 30 * time.Second}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	p.base = &http.Transport{}
	t.Cleanup(p.base.CloseIdleConnections)
	target, err := url.Parse(p.origin.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorLog: quiet,
		Transport: &transport.Transport{
			Base: p.base, Policies: set, Agent: &client.Session{Socket: t.TempDir() + "/none"},
			Observe: func(e transport.Event) {
				if e.Kind == transport.Revalidated {
					p.behind <- e
				}
			},
		},
	})
	t.Cleanup(proxy.Close)
	p.url = proxy.URL
	p.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p
}

// take makes one step and says what is wrong.
func (p *throughProxy) take(s step, path string) error {
	p.origin.expects(s.origin, s.behind)
	p.base.CloseIdleConnections() // net/http repeats a request that breaks on a used one
	method := s.method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, p.url+path+s.path, nil)
	if err != nil {
		return err
	}
	for _, f := range s.asks {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	asked := p.origin.requests()
	want := 0
	if s.origin != nil {
		want = 1
	}
	if s.settles {
		select {
		case <-p.behind:
		case <-time.After(10 * time.Second):
			return errors.New("no revalidation came to its end")
		}
		if asked = p.origin.requests(); s.behind != nil {
			want++
		}
	}
	if len(asked) != want {
		return fmt.Errorf("the origin was asked %d times, want %d; the client got %d %q", len(asked), want, resp.StatusCode, body)
	}
	status := s.status
	if status == 0 {
		status = http.StatusOK
		if s.origin != nil && s.origin.status != 0 {
			status = s.origin.status
		}
	}
	if method == http.MethodHead {
		s.body = ""
	}
	if resp.StatusCode != status || string(body) != s.body && !s.broken(resp) {
		return fmt.Errorf("got %d %q %v, want %d %q", resp.StatusCode, body, resp.Header, status, s.body)
	}
	for _, f := range s.has {
		name, value, _ := strings.Cut(f, ":")
		if got := strings.Join(resp.Header.Values(name), ", "); got != strings.TrimSpace(value) {
			return fmt.Errorf("the response has %s %q, want %q", name, got, strings.TrimSpace(value))
		}
	}
	for _, f := range s.sent {
		name, value, _ := strings.Cut(f, ":")
		if got := strings.Join(asked[len(asked)-1].Header.Values(name), ", "); got != strings.TrimSpace(value) {
			return fmt.Errorf("the origin was sent %s %q, want %q", name, got, strings.TrimSpace(value))
		}
	}
	return nil
}

// broken is a failure of the origin that the proxy tells of in its own words.
func (s step) broken(resp *http.Response) bool {
	return resp.StatusCode == http.StatusBadGateway && s.origin != nil && s.origin.broken
}

// TestFreshThroughProxy: what a private cache owes, through a real ReverseProxy
// between a real client and a real origin. Each case has a name by the section
// that decides, and is taken twice: with the origin's own windows (max_stale:
// none), and with an hour of the operator's. Ages are made by the Age field, so
// that nobody has to wait.
func TestFreshThroughProxy(t *testing.T) {
	for window, maxStale := range map[string]time.Duration{"none": policies.None, "1h": time.Hour} {
		p := newThroughProxy(t, maxStale)
		for i, c := range freshCases() {
			t.Run(window+"/"+c.name, func(t *testing.T) {
				path := fmt.Sprint("/", i)
				for n, s := range c.steps {
					if maxStale > 0 && s.extended != nil {
						s = *s.extended
					}
					if err := p.take(s, path); err != nil {
						t.Fatalf("step %d, %s: %v", n+1, path+s.path, err)
					}
				}
				select {
				case e := <-p.behind:
					t.Errorf("a revalidation that nobody expected: %+v", e)
				default:
				}
			})
		}
	}
}

// TestCollapsedThroughProxy: RFC 9111, section 4. Of many clients that ask for
// the same at once, one reaches the origin.
func TestCollapsedThroughProxy(t *testing.T) {
	p := newThroughProxy(t, policies.None)
	release, asked := make(chan struct{}), make(chan struct{}, 100)
	large := bytes.Repeat([]byte("0123456789"), 10_000)
	p.origin.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-release
		w.Header().Set("Cache-Control", "max-age=60")
		w.Write(large)
	})
	var wg sync.WaitGroup
	collapsed := make(chan string, 100)
	for range 50 {
		wg.Go(func() {
			resp, err := p.client.Get(p.url + "/")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(body, large) {
				t.Errorf("got %d bytes, %v", len(body), err)
			}
			collapsed <- resp.Header.Get("Cache-Status")
		})
	}
	<-asked
	close(release)
	wg.Wait()
	close(collapsed)
	if n := len(asked) + 1; n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
	first := 0
	for mark := range collapsed {
		switch {
		case mark == "":
			first++
		case !strings.HasPrefix(mark, "resagent; fwd=miss; collapsed; ttl=") && !strings.HasPrefix(mark, "resagent; hit; ttl="): // who came late
			t.Errorf("Cache-Status %q", mark)
		}
	}
	if first != 1 {
		t.Errorf("%d answers are marked as the origin's own", first)
	}
}

// TestInterimThroughProxy: RFC 9111, section 3. What comes before the answer
// reaches the client, and is not stored with it.
func TestInterimThroughProxy(t *testing.T) {
	p := newThroughProxy(t, policies.None)
	p.origin.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "one")
	})
	for i, want := range []string{"103 </style.css>; rel=preload", ""} {
		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		}})
		req, err := http.NewRequestWithContext(ctx, "GET", p.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "one" || resp.Header["Link"] != nil || (resp.Header.Get("Cache-Status") == "") != (i == 0) {
			t.Errorf("answer %d: %q %v, %v", i+1, body, resp.Header, err)
		}
		if got := strings.Join(hints, ", "); got != want {
			t.Errorf("before answer %d came %q, want %q", i+1, got, want)
		}
	}
}
