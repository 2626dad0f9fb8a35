package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/resagent/resagent/policies"
)

// TestRequestUntouched: struct, header map and Body field are the caller's
// afterwards, whatever happened on the way.
func TestRequestUntouched(t *testing.T) {
	for name, answers := range map[string][]answer{
		"success": {{status: 200}},
		"retries": {{err: errReset}, {status: 503}, {status: 200}},
		"failure": {{err: errReset}},
	} {
		t.Run(name, func(t *testing.T) {
			tr, _ := through(t, policies.Policy{Idempotency: &policies.Idempotency{},
				Retry: &policies.Retry{Backoff: policies.Backoff{Base: 1, Max: 1}}}, answers...)
			req := request(t, "POST", strings.NewReader("body"))
			req.RequestURI = "/x"
			req.URL.User = url.UserPassword("user", "secret")
			req.Header.Set("A", "b")
			before, header, body := *req, maps.Clone(req.Header), req.Body
			beforeURL := *req.URL
			resp, err := tr.RoundTrip(req)
			if (resp == nil) == (err == nil) {
				t.Fatalf("got %v and %v, want one of them", resp, err)
			}
			if req.Body != body || !maps.EqualFunc(req.Header, header, func(a, b []string) bool { return reflect.DeepEqual(a, b) }) {
				t.Errorf("header %v or body were changed", req.Header)
			}
			before.GetBody, req.GetBody = nil, nil // functions do not compare
			if !reflect.DeepEqual(before, *req) || *req.URL != beforeURL {
				t.Errorf("the request was changed: %+v", req)
			}
		})
	}
}

// TestUserinfoIsNotAdded: a Base sees the header the caller wrote.
func TestUserinfoIsNotAdded(t *testing.T) {
	tr, s := through(t, policies.Policy{}, answer{status: 200})
	req := request(t, "GET", nil)
	req.URL.User = url.UserPassword("user", "secret")
	req.RequestURI = "/x"
	if _, err := tr.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if h := s.calls[0].header; len(h) != 0 {
		t.Errorf("the base saw %v", h)
	}
	if got := s.calls[0].req.RequestURI; got != "/x" {
		t.Errorf("the base saw RequestURI %q", got)
	}
}

// TestBodyClosedOnce: on every path.
func TestBodyClosedOnce(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	quick := &policies.Retry{Backoff: policies.Backoff{Base: 1, Max: 1}}
	for _, tc := range []struct {
		name  string
		p     policies.Policy
		ctx   context.Context
		get   bool
		steps []answer
		panic bool
	}{
		{name: "in memory", get: true, steps: []answer{{status: 200}}},
		{name: "success", steps: []answer{{status: 200}}},
		{name: "failure", steps: []answer{{err: errReset}}},
		{name: "retry", steps: []answer{{err: errReset}, {status: 200}}},
		{name: "retry with GetBody", get: true, steps: []answer{{err: errReset}, {status: 200}}},
		{name: "cancelled", ctx: cancelled, steps: []answer{{err: context.Canceled}}},
		{name: "refused", p: policies.Policy{RateLimit: &policies.RateLimit{Rate: 0.001, Burst: 1, MaxWait: policies.None}}, steps: []answer{{status: 200}}},
		{name: "panic", panic: true, steps: []answer{{panics: "boom"}}},
		{name: "panic after a retry", panic: true, steps: []answer{{err: errReset}, {panics: "boom"}}},
		{name: "panic after a retry with GetBody", get: true, panic: true, steps: []answer{{err: errReset}, {panics: "boom"}}},
		{name: "static fallback", p: policies.Policy{Fallback: &policies.Fallback{Static: &policies.Static{Body: "x"}}}, steps: []answer{{status: 503}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.p.Retry = quick
			tr, s := through(t, tc.p, tc.steps...)
			if tc.name == "refused" {
				tr.RoundTrip(request(t, "GET", nil)) // takes the only token
			}
			var all []*tracked
			body := func() *tracked {
				b := &tracked{Reader: strings.NewReader("body")}
				all = append(all, b)
				return b
			}
			req := request(t, "PUT", body())
			if tc.get {
				req.GetBody = func() (io.ReadCloser, error) { return body(), nil }
			}
			if tc.ctx != nil {
				req = req.WithContext(tc.ctx)
			}
			func() {
				defer func() {
					if v := recover(); (v != nil) != tc.panic {
						t.Errorf("recovered %v", v)
					}
				}()
				if resp, err := tr.RoundTrip(req); (resp == nil) == (err == nil) {
					t.Errorf("got %v and %v, want one of them", resp, err)
				}
			}()
			for i, b := range all {
				if n := b.times.Load(); n != 1 {
					t.Errorf("body %d of %d was closed %d times, after %d attempts", i+1, len(all), n, s.count())
				}
			}
		})
	}
}

// TestPanicReleases: a panicking base leaves no permit behind.
func TestPanicReleases(t *testing.T) {
	tr, _ := through(t, policies.Policy{Bulkhead: &policies.Bulkhead{MaxConcurrent: 1, MaxWait: policies.None, MaxWaiting: policies.None}},
		answer{panics: http.ErrAbortHandler}, answer{panics: http.ErrAbortHandler}, answer{status: 200})
	for range 2 {
		func() {
			defer func() {
				if v := recover(); v != http.ErrAbortHandler {
					t.Errorf("recovered %v", v)
				}
			}()
			tr.RoundTrip(request(t, "GET", nil))
		}()
	}
	if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
		t.Errorf("after two panics: %v", err)
	}
}

// TestPanicInHook: likewise, at whichever event, and no body stays open.
func TestPanicInHook(t *testing.T) {
	for _, kind := range []Kind{Attempted, Retrying, Stopped, CircuitOpened, Served} {
		p := policies.Policy{
			Bulkhead:       &policies.Bulkhead{MaxConcurrent: 1, MaxWait: policies.None, MaxWaiting: policies.None},
			CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 2},
			Retry:          &policies.Retry{MaxAttempts: 2, Backoff: policies.Backoff{Base: 1, Max: 1}},
			Fallback:       &policies.Fallback{Static: &policies.Static{Body: "x"}},
		}
		tr, _ := through(t, p, answer{status: 503, body: "no"}, answer{status: 503, body: "no"}, answer{status: 200})
		tr.Observe = func(e Event) {
			if e.Kind == kind {
				panic("hook")
			}
		}
		func() {
			defer func() {
				if v := recover(); v != "hook" {
					t.Errorf("%v: recovered %v", kind, v)
				}
			}()
			tr.RoundTrip(request(t, "GET", nil))
		}()
		tr.Observe = nil
		resp, err := tr.RoundTrip(request(t, "POST", nil))
		if errors.Is(err, ErrBulkheadFull) {
			t.Errorf("%v: a permit was left behind", kind)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
}

// TestBrokenBase: never both, never neither.
func TestBrokenBase(t *testing.T) {
	both := &tracked{Reader: strings.NewReader("x")}
	for name, do := range map[string]func(*http.Request) (*http.Response, error){
		"neither": func(*http.Request) (*http.Response, error) { return nil, nil },
		"both": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: both}, errReset
		},
	} {
		tr, _ := through(t, policies.Policy{Retry: &policies.Retry{Disabled: true}}, answer{do: do})
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); resp != nil || err == nil {
			t.Errorf("%s: got %v, %v", name, resp, err)
		}
	}
	if n := both.times.Load(); n != 1 {
		t.Errorf("the body beside an error was closed %d times", n)
	}
}

// serve starts a server and gives a transport with a base of its own to it,
// under a policy with everything on.
func serve(t *testing.T, h http.Handler) (*Transport, *httptest.Server) {
	t.Helper()
	srv := httptest.NewServer(h)
	base := &http.Transport{}
	t.Cleanup(func() { base.CloseIdleConnections(); srv.Close() })
	p := policies.Policy{
		Match:     []policies.Match{{Host: "127.0.0.1"}},
		Bulkhead:  &policies.Bulkhead{MaxConcurrent: 8},
		RateLimit: &policies.RateLimit{Rate: 1e6},
		Retry:     &policies.Retry{Backoff: policies.Backoff{Base: 1, Max: 1}},
	}
	return &Transport{Base: base, Agent: alone(t), Policies: compile(t, p)}, srv
}

// TestRedirectsUntouched: a 3xx is the caller's, with a good, a malformed or no
// Location, and without a second use of the body.
func TestRedirectsUntouched(t *testing.T) {
	tr, srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l := r.URL.Query().Get("to"); l != "" {
			w.Header().Set("Location", l)
		}
		var code int
		fmt.Sscan(r.URL.Query().Get("code"), &code)
		w.WriteHeader(code)
		io.WriteString(w, "moved")
	}))
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{"/next", "http://%zz/", "::", ""} {
			src := &tracked{Reader: strings.NewReader("body")}
			req, err := http.NewRequest("PUT", fmt.Sprintf("%s/?code=%d&to=%s", srv.URL, code, url.QueryEscape(to)), src)
			if err != nil {
				t.Fatal(err)
			}
			req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("GetBody was called") }
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Errorf("%d to %q: %v", code, to, err)
				continue
			}
			if got := read(t, resp); resp.StatusCode != code || resp.Header.Get("Location") != to || got != "moved" {
				t.Errorf("%d to %q: got %d, Location %q, %q", code, to, resp.StatusCode, resp.Header.Get("Location"), got)
			}
			if n := src.times.Load(); n != 1 {
				t.Errorf("%d to %q: the body was closed %d times", code, to, n)
			}
		}
	}
}

// TestClientFollowsRedirects: with an http.Client around it, as with the bare
// base.
func TestClientFollowsRedirects(t *testing.T) {
	tr, srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			http.Redirect(w, r, "/second", http.StatusTemporaryRedirect)
			return
		}
		io.Copy(w, r.Body)
	}))
	resp, err := (&http.Client{Transport: tr}).Post(srv.URL+"/first", "text/plain", strings.NewReader("again"))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, resp); got != "again" || resp.Request.URL.Path != "/second" {
		t.Errorf("got %q from %s", got, resp.Request.URL)
	}
}

// TestReverseProxy: requests that come from a server have RequestURI set.
func TestReverseProxy(t *testing.T) {
	tr, srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, data)
	}))
	target, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	defer proxy.Close()
	resp, err := proxy.Client().Post(proxy.URL+"/p", "text/plain", strings.NewReader("data"))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, resp); got != "POST /p data" {
		t.Errorf("through the proxy: %q", got)
	}
}

// TestCloseIdleConnections is forwarded, and not called by us: see through.
func TestCloseIdleConnections(t *testing.T) {
	s := &script{}
	(&Transport{Base: s}).CloseIdleConnections()
	if s.idle.Load() != 1 {
		t.Error("not forwarded")
	}
	(&Transport{Base: noop{}}).CloseIdleConnections() // has none: nothing happens
}

// TestInvalidRequest: what net/http says about it, from net/http.
func TestInvalidRequest(t *testing.T) {
	tr := &Transport{Agent: alone(t), Base: &http.Transport{}}
	if _, err := tr.RoundTrip(&http.Request{}); err == nil || !strings.Contains(err.Error(), "nil Request.URL") {
		t.Errorf("nil URL: %v", err)
	}
	req := request(t, "GET", nil)
	req.URL.Scheme = "gopher"
	var info Info
	if _, err := tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info))); err == nil || info.Attempts != 1 {
		t.Errorf("an unsupported scheme: %v after %d attempts, want an error after one", err, info.Attempts)
	}
}
