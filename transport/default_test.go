package transport

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/resagent/resagent/policies"
)

// around is somebody's RoundTripper over another.
type around struct {
	next   http.RoundTripper
	closes *int
}

func (a around) RoundTrip(req *http.Request) (*http.Response, error) {
	return a.next.RoundTrip(req.WithContext(req.Context()))
}

func (a around) CloseIdleConnections() {
	*a.closes++
	(&http.Client{Transport: a.next}).CloseIdleConnections()
}

// TestAsDefaultTransport: put in place of http.DefaultTransport, or under
// another that is, it does not call itself without end, and works.
func TestAsDefaultTransport(t *testing.T) {
	defer func(was http.RoundTripper) { http.DefaultTransport = was }(http.DefaultTransport)
	fails, closes := 1, 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fails--; fails >= 0 {
			w.WriteHeader(503)
		}
		io.WriteString(w, "x")
	}))
	defer srv.Close()
	for name, put := range map[string]func(*Transport) http.RoundTripper{
		"itself":  func(tr *Transport) http.RoundTripper { return tr },
		"wrapped": func(tr *Transport) http.RoundTripper { return around{tr, &closes} },
	} {
		t.Run(name, func(t *testing.T) {
			attempts := 0
			fails = 1
			http.DefaultTransport = put(&Transport{Agent: alone(t), random: func() float64 { return 0 }, Observe: func(e Event) {
				if e.Kind == Attempted {
					attempts++
				}
			}})
			resp, err := http.Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != "x" || resp.StatusCode != 200 || attempts != 2 {
				t.Errorf("%d %q after %d attempts, want 200 after a 503", resp.StatusCode, got, attempts)
			}
			for i := range 2 {
				if http.DefaultClient.CloseIdleConnections(); name == "wrapped" && closes != 2*i+2 {
					t.Errorf("the wrapper heard %d times that connections are to be closed, want %d", closes, 2*i+2)
				}
			}
			if _, err := http.DefaultTransport.RoundTrip(&http.Request{}); err == nil {
				t.Error("a request without a URL is sent")
			}
		})
	}
}

// TestOverADefaultOfItsKind: a program that has put a Transport in place of
// http.DefaultTransport may have others without a Base. A call goes through one:
// through both, attempts would multiply, and each permit be waited for by the
// one that holds it.
func TestOverADefaultOfItsKind(t *testing.T) {
	defer func(was http.RoundTripper) { http.DefaultTransport = was }(http.DefaultTransport)
	session := alone(t)
	p := compile(t, policies.Policy{
		Match:    []policies.Match{{Host: "*"}},
		Bulkhead: &policies.Bulkhead{MaxConcurrent: 1, MaxWaiting: policies.None},
	})
	s := &script{answers: []answer{{status: 503}, {status: 503}, {status: 503}, {status: 200}}}
	tr := &Transport{Agent: session, Policies: p, random: func() float64 { return 0 }}
	for name, d := range map[string]*Transport{
		"with a base":    {Agent: session, Policies: p, Base: s},
		"with none":      {Agent: session, Policies: p},
		"with the other": {Agent: session, Policies: p, Base: tr},
	} {
		http.DefaultTransport = d
		want := original
		if d.Base == http.RoundTripper(s) {
			want = s
			resp, err := tr.RoundTrip(get(t))
			if err != nil || resp.StatusCode != 503 || s.count() != 3 {
				t.Errorf("%s: %v after %d attempts, want 503 after 3", name, err, s.count())
			}
		}
		if got := tr.base(); got != want {
			t.Errorf("%s: the attempts are made by a %T, want a %T", name, got, want)
		}
	}
}
