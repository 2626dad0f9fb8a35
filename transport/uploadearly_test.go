package transport

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// chunks is a body without GetBody that takes its time: a chunk after each
// pause, then err.
type chunks struct {
	n, size int
	pause   time.Duration
	err     error // nil: io.EOF
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.n == 0 && c.err == nil {
		return 0, io.EOF
	}
	time.Sleep(c.pause)
	if c.n == 0 {
		err := c.err
		c.err = nil // once
		return 0, err
	}
	n := min(len(p), c.size)
	for i := range n {
		p[i] = 'a' + byte(c.n%26)
	}
	c.n--
	return n, nil
}

func (c *chunks) Close() error { return nil }

// all is what a body says if nothing goes wrong.
func (c chunks) all() string {
	text, _ := inPieces(&chunks{n: c.n, size: c.size})
	return string(text)
}

// inPieces is io.ReadAll in the pieces that the reader has.
func inPieces(r io.Reader) (all []byte, err error) {
	p := make([]byte, 64<<10)
	for {
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// early is a base that answers the first request after a while, or gives it up,
// and goes on reading its body, as net/http does. What it read is in got.
type early struct {
	after  time.Duration
	err    error // nil: 503
	closes bool  // while a Read is under way
	left   sync.WaitGroup

	mu  sync.Mutex
	got []string
}

func (e *early) RoundTrip(req *http.Request) (*http.Response, error) {
	e.mu.Lock()
	i := len(e.got)
	e.got = append(e.got, "")
	e.mu.Unlock()
	read := func() error {
		text, err := inPieces(req.Body)
		req.Body.Close()
		e.mu.Lock()
		e.got[i] = string(text)
		e.mu.Unlock()
		return err
	}
	if i > 0 {
		if err := read(); err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}
	e.left.Go(func() { read() })
	time.Sleep(e.after)
	if e.closes {
		req.Body.Close()
	}
	if e.err != nil {
		return nil, e.err
	}
	return &http.Response{StatusCode: 503, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("busy")), ContentLength: 4, Request: req}, nil
}

// TestAnswerDuringTheUpload: an attempt whose answer comes while its body is
// still read is followed by one with the whole body, or by none.
func TestAnswerDuringTheUpload(t *testing.T) {
	const ms = time.Millisecond
	disk := errors.New("disk error")
	for name, tc := range map[string]struct {
		body    chunks
		base    *early
		status  int
		err     error
		sent    int    // attempts
		stopped string // why there was no other
	}{
		"sent again":                   {body: chunks{25, 8 << 10, ms, nil}, base: &early{after: 3*ms + ms/2}, status: 200, sent: 2},
		"more was read than is kept":   {body: chunks{25, 8 << 10, ms, nil}, base: &early{after: 15 * ms}, status: 503, sent: 1, stopped: bodyGone},
		"a Read under way is too much": {body: chunks{5, 30 << 10, 100 * ms, nil}, base: &early{after: 250 * ms}, status: 503, sent: 1, stopped: bodyGone},
		"the same after a failure":     {body: chunks{3, 30 << 10, 100 * ms, nil}, base: &early{after: 250 * ms, err: errReset}, err: errReset, sent: 1, stopped: bodyGone},
		"a Read under way fails":       {body: chunks{1, 6000, 100 * ms, disk}, base: &early{after: 150 * ms, err: errReset, closes: true}, err: errReset, sent: 1, stopped: bodyGone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var info Info
				tr, _ := through(t, policies.Policy{}, answer{status: 200})
				tr.Base = tc.base
				whole, src := tc.body.all(), tc.body
				req := request(t, "PUT", &src)
				resp, err := tr.RoundTrip(req.WithContext(WithInfo(t.Context(), &info)))
				if !errors.Is(err, tc.err) || err == nil && resp.StatusCode != tc.status {
					t.Errorf("got %v, %v; want %d, %v", resp, err, tc.status, tc.err)
				}
				if err == nil {
					resp.Body.Close()
				}
				tc.base.left.Wait()
				if len(tc.base.got) != tc.sent || info.Stopped != tc.stopped {
					t.Errorf("%d attempts, then %q; want %d, then %q", len(tc.base.got), info.Stopped, tc.sent, tc.stopped)
				}
				if tc.sent > 1 && tc.base.got[1] != whole {
					t.Errorf("the second attempt had %d bytes of %d", len(tc.base.got[1]), len(whole))
				}
				if tc.status == 503 && tc.base.got[0] != whole {
					t.Errorf("the one attempt, whose answer was given, had %d bytes of %d", len(tc.base.got[0]), len(whole))
				}
			})
		})
	}
}

// TestEarlyAnswerOverHTTP: the same with net/http's own Transport and an
// upstream that refuses a request at its head, as a proxy does under load.
func TestEarlyAnswerOverHTTP(t *testing.T) {
	const size = 200 << 10
	for name, change := range map[string]func(*http.Request){
		"chunked":        func(*http.Request) {},
		"content length": func(req *http.Request) { req.ContentLength = size },
		"pipe": func(req *http.Request) {
			src := req.Body
			r, w := io.Pipe()
			req.Body = r
			go func() {
				_, err := io.Copy(w, src)
				w.CloseWithError(err)
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				var refused atomic.Bool
				got := make(chan int, 10)
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.NewResponseController(w).EnableFullDuplex()
					if !refused.Swap(true) {
						w.Header().Set("Content-Length", "4")
						w.WriteHeader(503)
						io.WriteString(w, "busy")
						http.NewResponseController(w).Flush()
						io.Copy(io.Discard, r.Body)
						return
					}
					text, err := io.ReadAll(r.Body)
					if err != nil {
						text = nil
					}
					got <- len(text)
				}))
				defer s.Close()
				req, err := http.NewRequest("PUT", s.URL, &chunks{n: size / (8 << 10), size: 8 << 10, pause: time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				change(req)
				base := &http.Transport{}
				defer base.CloseIdleConnections()
				resp, err := (&Transport{Base: base, Agent: alone(t)}).RoundTrip(req)
				if err != nil {
					t.Error(err)
					continue
				}
				resp.Body.Close()
				switch resp.StatusCode {
				case 503: // more had been read than is kept
				case 200:
					if n := <-got; n != size {
						t.Errorf("the upstream has taken %d bytes of %d", n, size)
					}
				default:
					t.Error(resp.Status)
				}
			}
		})
	}
}
