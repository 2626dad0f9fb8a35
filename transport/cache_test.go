package transport

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// TestCacheIsTheTransports: two transports of one session may have bases that
// call as somebody else (a client certificate, credentials added on the way),
// and then one's answer is not the other's.
func TestCacheIsTheTransports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s, answer{err: errReset})
		stranger := &Transport{Base: &script{answers: []answer{{err: errReset}}}, Policies: tr.Policies, Agent: tr.Agent}
		if resp, err := stranger.RoundTrip(request(t, "GET", nil)); !errors.Is(err, errReset) {
			t.Errorf("another transport got %v, %v; want its own error", resp, err)
		}
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || read(t, resp) != "good" {
			t.Errorf("the one that fetched it got %v, %v", resp, err)
		}
	})
}

// TestUnsafeInvalidatesWhereverItGoes: also through an upstream of the same
// transport that keeps nothing itself.
func TestUnsafeInvalidatesWhereverItGoes(t *testing.T) {
	for name, given := range map[string]*fallbackcache.Cache{"own cache": nil, "given cache": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads := named(stale(time.Second))
				set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
					"reads":  reads,
					"writes": {Match: []policies.Match{{Host: "upstream.test", Methods: []string{"PUT"}}}},
				}})
				if err != nil {
					t.Fatal(err)
				}
				s := new(script)
				tr := &Transport{Base: s, Agent: alone(t), Policies: set, Cache: given}
				fillCache(t, tr, s, answer{status: 204}, answer{err: errReset})
				if _, err := tr.RoundTrip(request(t, "PUT", nil)); err != nil {
					t.Fatal(err)
				}
				if resp, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, errReset) {
					t.Errorf("got %v, %v; want the error: what is stored was changed", resp, err)
				}
			})
		})
	}
}

// TestOnlyIfCached: RFC 9111, section 5.2.1.7. No network, and no waiting.
func TestOnlyIfCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s, answer{status: 200, body: "new"})
		ask := func(method, path string) (*http.Response, Info) {
			t.Helper()
			var info Info
			body := &tracked{Reader: strings.NewReader("")}
			req, err := http.NewRequestWithContext(WithInfo(context.Background(), &info), method, host+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Cache-Control", "only-if-cached, max-stale")
			if method == "GET" && path == "/body" {
				req.Body = body
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if req.Body != nil && body.times.Load() != 1 {
				t.Errorf("the request's body was closed %d times", body.times.Load())
			}
			if resp.Request != req {
				t.Error("the response's Request is not the caller's")
			}
			return resp, info
		}
		for _, tc := range []struct {
			method, path string
			status       int
			body         string
			attempts     int
			served       Source
			mark         string
		}{
			{"GET", "/x", 200, "good", 0, FromStale, "resagent; hit; ttl=-60"},
			{"HEAD", "/x", 200, "", 0, FromStale, "resagent; hit; ttl=-60"},
			{"GET", "/other", 504, "", 0, FromHost, "resagent; detail=only-if-cached"},
			{"GET", "/body", 504, "", 0, FromHost, "resagent; detail=only-if-cached"},
			{"OPTIONS", "/x", 200, "new", 1, FromUpstream, ""},
			{"POST", "/x", 200, "new", 1, FromUpstream, ""},
		} {
			before := s.count()
			resp, info := ask(tc.method, tc.path)
			if got := read(t, resp); resp.StatusCode != tc.status || got != tc.body || resp.Header.Get("Cache-Status") != tc.mark {
				t.Errorf("%s %s: got %d %q %q, want %d %q %q", tc.method, tc.path,
					resp.StatusCode, got, resp.Header.Get("Cache-Status"), tc.status, tc.body, tc.mark)
			}
			if sent := s.count() - before; sent != tc.attempts || info.Attempts != tc.attempts || info.Served != tc.served {
				t.Errorf("%s %s: %d sent, info %+v; want %d, served %q", tc.method, tc.path, sent, info, tc.attempts, tc.served)
			}
		}
	})
}

// TestOnlyIfCachedWithoutStale: where nothing is ever stored the field is the
// upstream's business, as with the bare base.
func TestOnlyIfCachedWithoutStale(t *testing.T) {
	tr, s := through(t, policies.Policy{Fallback: &policies.Fallback{Static: &policies.Static{Body: "x"}}}, answer{status: 200, body: "new"})
	req := request(t, "GET", nil)
	req.Header.Set("Cache-Control", "only-if-cached")
	if resp, err := tr.RoundTrip(req); err != nil || read(t, resp) != "new" || s.count() != 1 {
		t.Errorf("got %v, %v", resp, err)
	}
}

// TestDecodedJSONIsStored: who decodes a body does not ask for its end, which
// comes after the last byte over HTTP/2.
func TestDecodedJSONIsStored(t *testing.T) {
	var down atomic.Bool
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body := `{"rate": "` + strings.Repeat("1", 5000) + `"}`
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		io.WriteString(w, body)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	p := once(policies.Policy{Match: []policies.Match{{Host: "127.0.0.1"}}, Fallback: stale(0).Fallback})
	client := &http.Client{Transport: &Transport{Base: server.Client().Transport, Policies: compile(t, p), Agent: alone(t)}}
	for _, want := range []Source{FromUpstream, FromStale} {
		var info Info
		req, err := http.NewRequestWithContext(WithInfo(t.Context(), &info), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var rate struct{ Rate string }
		err = json.NewDecoder(resp.Body).Decode(&rate)
		resp.Body.Close()
		if err != nil || len(rate.Rate) != 5000 || info.Served != want {
			t.Errorf("got %d digits from %q, %v; want 5000 from %q", len(rate.Rate), info.Served, err, want)
		}
		if want == FromUpstream && resp.ProtoMajor != 2 {
			t.Errorf("it came over %s", resp.Proto)
		}
		down.Store(true)
	}
}
