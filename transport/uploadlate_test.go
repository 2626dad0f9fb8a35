package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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
}

func (b *answersFirst) RoundTrip(req *http.Request) (*http.Response, error) {
	go func() {
		io.Copy(io.Discard, req.Body)
		err := req.Context().Err()
		req.Body.Close()
		b.ends <- err
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: b.body, Request: req}, nil
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

// TestOwnPoolLeavesProtocols: with a connection pool of its own an upstream is
// still reached by what was registered with the base.
func TestOwnPoolLeavesProtocols(t *testing.T) {
	base := &http.Transport{}
	base.RegisterProtocol("memory", around{&script{answers: []answer{{status: 200}}}})
	tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, policies.Policy{
		Match: []policies.Match{{Host: "upstream.test"}}, Connections: &policies.Connections{MaxPerHost: 1},
	})}
	resp, err := tr.RoundTrip(mustRequest(t, "GET", "memory://upstream.test/", nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
