package transport

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// TestTrailers: net/http puts trailers that were not announced into the
// *http.Response it made, so whoever hands on a copy of that has to bring them
// along. Through our body, the cache's recording of it, an http.Client, and a
// goroutine that raced a stale answer.
func TestTrailers(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for _, announced := range []bool{false, true} {
			for _, keeps := range []bool{false, true} {
				t.Run(fmt.Sprintf("http2=%v announced=%v keeps=%v", http2, announced, keeps), func(t *testing.T) {
					testTrailers(t, http2, announced, keeps)
				})
			}
		}
	}
}

func testTrailers(t *testing.T, http2, announced, keeps bool) {
	var plain atomic.Bool // without trailers, so that it is stored
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		if plain.Load() {
			return
		}
		sum := http.TrailerPrefix + "Sum"
		if announced {
			w.Header().Set("Trailer", "Sum")
			sum = "Sum"
		}
		fmt.Fprint(w, r.Proto[:6])
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		w.Header().Set(sum, "42")
	}))
	srv.EnableHTTP2 = http2
	srv.StartTLS()
	defer srv.Close()
	p := policies.Policy{Match: []policies.Match{{Host: "127.0.0.1"}}}
	if keeps {
		p.Fallback = &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour}}
	}
	tr := &Transport{Base: srv.Client().Transport, Agent: alone(t), Policies: compile(t, p)}
	if keeps { // from now on, calls race a stale answer
		plain.Store(true)
		resp, err := tr.RoundTrip(mustRequest(t, "GET", srv.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
		if _, ok := tr.own.Find(mustRequest(t, "GET", srv.URL, nil), time.Hour, time.Now()); !ok {
			t.Fatal("nothing is stored to race with")
		}
		plain.Store(false)
	}
	for name, get := range map[string]func(*http.Request) (*http.Response, error){
		"transport": tr.RoundTrip,
		"client":    (&http.Client{Transport: tr, Timeout: time.Minute}).Do, // it wraps the body once more
	} {
		resp, err := get(mustRequest(t, "GET", srv.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, known := resp.Trailer["Sum"]; known != announced {
			t.Errorf("%s: before the body, Trailer is %v", name, resp.Trailer)
		}
		want := map[bool]string{false: "HTTP/1", true: "HTTP/2"}[http2]
		if got := read(t, resp); got != want {
			t.Errorf("%s: body %q, want %q", name, got, want)
		}
		if resp.Trailer.Get("Sum") != "42" {
			t.Errorf("%s: after the body, Trailer is %v", name, resp.Trailer)
		}
	}
}
