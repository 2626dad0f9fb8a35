package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// answersFirst is a base that answers at once and goes on sending the request,
// as net/http does over HTTP/2.
type answersFirst struct {
	body io.ReadCloser
	ends chan error // what the request's context said when its body had been sent
	seen []context.Context
}

func (b *answersFirst) RoundTrip(req *http.Request) (*http.Response, error) {
	b.seen = append(b.seen, req.Context())
	go func() {
		io.Copy(io.Discard, req.Body)
		err := req.Context().Err()
		req.Body.Close()
		b.ends <- err
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: b.body, Request: req, ProtoMajor: 2}, nil
}

// TestUploadOutlastsTheAnswer: the end of the response gives the permit back,
// and does not cut the request short; the caller's Close does.
func TestUploadOutlastsTheAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		body   func() io.ReadCloser
		closes bool
		want   error
	}{
		"no body":        {body: func() io.ReadCloser { return http.NoBody }},
		"read to EOF":    {body: func() io.ReadCloser { return io.NopCloser(strings.NewReader("answer")) }},
		"closed by then": {body: func() io.ReadCloser { return io.NopCloser(strings.NewReader("answer")) }, closes: true, want: context.Canceled},
	} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, GetBody %v", name, again), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tr, _ := through(t, policies.Policy{Bulkhead: &policies.Bulkhead{MaxConcurrent: 1}}, answer{status: 200})
					base := &answersFirst{body: tc.body(), ends: make(chan error, 2)}
					tr.Base = base
					for range 2 { // the second has the permit of the first
						base.body = tc.body()
						req := request(t, "POST", &chunks{n: 10, size: 1000, pause: 20 * time.Millisecond})
						if again {
							req.GetBody = func() (io.ReadCloser, error) { return http.NoBody, nil }
						}
						ctx, cancel := context.WithCancel(t.Context())
						resp, err := tr.RoundTrip(req.WithContext(ctx))
						if err != nil {
							t.Fatal(err)
						}
						if tc.closes {
							resp.Body.Close()
						} else if _, err := io.Copy(io.Discard, resp.Body); err != nil {
							t.Error(err)
						}
						defer cancel()
					}
					for range 2 {
						if err := <-base.ends; err != tc.want {
							t.Errorf("when the request had been sent its context said %v, want %v", err, tc.want)
						}
					}
					for _, ctx := range base.seen {
						<-ctx.Done()
					}
				})
			})
		}
	}
}

// TestNoContentOverHTTP2: a 204 whose stream ends after its headers is read to
// its end, as with the bare base.
func TestNoContentOverHTTP2(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusNotModified} {
		gone := make(chan error, 1)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
			gone <- r.Context().Err()
		}))
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer srv.Close()
		tr := &Transport{Base: srv.Client().Transport, Agent: alone(t)}
		req, err := http.NewRequest(http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.ProtoMajor != 2 {
			t.Errorf("%s %d: the body gives %v", resp.Proto, status, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if err := <-gone; err != nil {
			t.Errorf("%d: the upstream saw %v", status, err)
		}
	}
}

// TestStuckUploadTimesOut: over HTTP/1.1 net/http waits for a Read of the
// request's body. A timeout does not wait for longer than a moment.
func TestStuckUploadTimesOut(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer srv.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, policies.Policy{
		Match:   []policies.Match{{Host: "127.0.0.1"}},
		Timeout: &policies.Timeout{Attempt: 100 * time.Millisecond, Total: time.Minute},
	})}
	reads, writes := io.Pipe()
	defer writes.Close()
	go writes.Write([]byte("some"))
	_, err := tr.RoundTrip(mustRequest(t, "PUT", srv.URL, reads))
	if !errors.Is(err, ErrAttemptTimeout) {
		t.Errorf("%v, want the attempt timeout", err)
	}
	if _, err := writes.Write([]byte("more")); err != io.ErrClosedPipe {
		t.Errorf("writing to a body that is given up: %v, want that it is closed", err)
	}
}

// TestTimeoutOfASlowRead: over a base that does not wait for a Read of the body a
// timeout leaves it alone, and the next attempt has the body whole.
func TestTimeoutOfASlowRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, policies.Policy{
			Timeout: &policies.Timeout{Attempt: 5 * time.Second, Total: time.Minute},
			Retry:   &policies.Retry{Backoff: policies.Backoff{Base: 2 * time.Second}},
		}, answer{status: 200})
		tr.random = func() float64 { return 0.5 } // the next begins at 6 s, and the Read ends at 6.5 s
		base := &givesUp{}
		tr.Base = base
		src := &tracked{Reader: io.MultiReader(&chunks{n: 1, size: 6, pause: 6500 * time.Millisecond}, strings.NewReader("world"))}
		resp, err := tr.RoundTrip(request(t, "PUT", src))
		if err != nil || resp.StatusCode != 200 || string(base.got) != (chunks{n: 1, size: 6}).all()+"world" {
			t.Errorf("%v, %v; the second attempt had %q", resp, err, base.got)
		}
		if n := src.times.Load(); n != 1 {
			t.Errorf("the body was closed %d times", n)
		}
	})
}

// givesUp is a base that returns when the context of the first request ends, and
// closes its body later.
type givesUp struct {
	calls int
	got   []byte
}

func (b *givesUp) RoundTrip(req *http.Request) (*http.Response, error) {
	if b.calls++; b.calls > 1 {
		b.got, _ = inPieces(req.Body)
		req.Body.Close()
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}
	go func() {
		inPieces(req.Body)
		req.Body.Close()
	}()
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// TestStuckBodiesAreClosedOnce: those of GetBody too.
func TestStuckBodiesAreClosedOnce(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer srv.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := &Transport{Base: base, Agent: alone(t), random: func() float64 { return 0 }, Policies: compile(t, policies.Policy{
		Match:   []policies.Match{{Host: "127.0.0.1"}},
		Timeout: &policies.Timeout{Attempt: 100 * time.Millisecond, Total: time.Minute},
		Retry:   &policies.Retry{MaxAttempts: 2},
	})}
	var made []*tracked
	hangs := func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go w.Write([]byte("some"))
		made = append(made, &tracked{Reader: r, closed: func() { r.Close() }})
		return made[len(made)-1], nil
	}
	body, _ := hangs()
	req := mustRequest(t, "PUT", srv.URL, body)
	req.GetBody = hangs
	if _, err := tr.RoundTrip(req); !errors.Is(err, ErrAttemptTimeout) {
		t.Errorf("%v, want the attempt timeout", err)
	}
	for i, b := range made {
		if n := b.times.Load(); n != 1 || len(made) != 2 {
			t.Errorf("body %d of %d was closed %d times", i, len(made), n)
		}
	}
}

// TestSupersededUploadEnds: an attempt that is followed by another sends no more.
func TestSupersededUploadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first context.Context
		var sending sync.WaitGroup
		tr, s := through(t, policies.Policy{}, answer{do: func(req *http.Request) (*http.Response, error) {
			first = req.Context()
			sending.Go(func() {
				inPieces(req.Body)
				req.Body.Close()
			})
			return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody, Request: req, ProtoMajor: 2}, nil
		}}, answer{status: 200})
		body := func() (io.ReadCloser, error) { return &chunks{n: 1000, size: 1, pause: time.Second}, nil }
		src, _ := body()
		req := request(t, "PUT", src)
		req.GetBody = func() (io.ReadCloser, error) { return http.NoBody, nil }
		resp, err := tr.RoundTrip(req)
		if err != nil || resp.StatusCode != 200 || s.count() != 2 {
			t.Fatalf("%v, %v after %d attempts", resp, err, s.count())
		}
		if first.Err() == nil {
			t.Error("the first attempt goes on beside the second")
		}
		sending.Wait()
	})
}

// TestOwnPoolLeavesProtocols: with a connection pool of its own an upstream is
// still reached by what was registered with the base.
func TestOwnPoolLeavesProtocols(t *testing.T) {
	base := &http.Transport{}
	base.RegisterProtocol("http+memory", around{next: &script{answers: []answer{{status: 200}}}})
	tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, policies.Policy{
		Match: []policies.Match{{Host: "upstream.test"}}, Connections: &policies.Connections{MaxPerHost: 1},
	})}
	resp, err := tr.RoundTrip(mustRequest(t, "GET", "http+memory://upstream.test/", nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
