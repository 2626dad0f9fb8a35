package transport

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

func compile(tb testing.TB, p policies.Policy) *policies.Snapshot {
	tb.Helper()
	s, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"upstream": p}})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// alone is a session that no agent answers.
func alone(tb testing.TB) *client.Session {
	return &client.Session{Socket: tb.TempDir() + "/none"}
}

func get(tb testing.TB) *http.Request {
	req, err := http.NewRequest(http.MethodGet, "http://upstream.test/x", nil)
	if err != nil {
		tb.Fatal(err)
	}
	return req
}

// host is where requests of tests go.
const host = "http://upstream.test"

// named is a policy for host, as the built-in values complete it.
func named(p policies.Policy) policies.Policy {
	p.Match = []policies.Match{{Host: "upstream.test"}}
	return p
}

// answer is one step of a script.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
	delay  time.Duration
	panics any
	do     func(*http.Request) (*http.Response, error) // in place of all others
}

// script is a base that gives its answers in order, the last one for ever. It
// reads and closes request bodies, obeys the context, and counts.
type script struct {
	answers []answer

	mu    sync.Mutex
	calls []receipt
	open  atomic.Int64 // response bodies not closed
	idle  atomic.Int64 // calls of CloseIdleConnections
}

// receipt is what the base saw.
type receipt struct {
	at     time.Time
	req    *http.Request
	header http.Header
	body   string
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	n := len(s.calls)
	s.calls = append(s.calls, receipt{at: time.Now(), req: req, header: req.Header.Clone()})
	a := s.answers[min(n, len(s.answers)-1)]
	s.mu.Unlock()
	if a.do != nil {
		return a.do(req)
	}
	if a.panics != nil {
		panic(a.panics)
	}
	if req.Body != nil {
		data, err := io.ReadAll(req.Body)
		req.Body.Close()
		s.mu.Lock()
		s.calls[n].body = string(data)
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
	if a.delay > 0 {
		timer := time.NewTimer(a.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	h := a.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	resp := &http.Response{StatusCode: a.status, Header: h, Body: http.NoBody, Request: req, ProtoMajor: 1, ProtoMinor: 1}
	if a.body != "" {
		resp.ContentLength = int64(len(a.body))
		resp.Body = s.track(strings.NewReader(a.body))
	}
	return resp, nil
}

func (s *script) CloseIdleConnections() { s.idle.Add(1) }

func (s *script) track(r io.Reader) io.ReadCloser {
	s.open.Add(1)
	return &tracked{Reader: r, closed: func() { s.open.Add(-1) }}
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// tracked is a body that knows how often it was closed.
type tracked struct {
	io.Reader
	closed func()
	times  atomic.Int64
}

func (b *tracked) Close() error {
	if b.times.Add(1) == 1 && b.closed != nil {
		b.closed()
	}
	return nil
}

// through makes a transport over a script with one policy.
func through(t *testing.T, p policies.Policy, answers ...answer) (*Transport, *script) {
	t.Helper()
	s := &script{answers: answers}
	tr := &Transport{Base: s, Policies: compile(t, named(p)), Agent: alone(t), random: func() float64 { return 0.5 }}
	t.Cleanup(func() {
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d response bodies of the base were never closed", n)
		}
		if n := s.idle.Load(); n != 0 {
			t.Errorf("the base's CloseIdleConnections was called %d times", n)
		}
	})
	return tr, s
}

// request makes one to host; body nil: none, with no GetBody.
func request(t *testing.T, method string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, host+"/x", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// read reads and closes a response.
func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the response: %v", err)
	}
	resp.Body.Close()
	return string(data)
}

var (
	errReset = errors.New("connection reset by peer")
	errOther = errors.New("another call's failure")
)
