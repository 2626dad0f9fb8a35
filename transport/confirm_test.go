package transport

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestConfirmed: RFC 9111, section 4.3. The upstream says 304, the caller has
// the whole answer, and it is fresh again.
func TestConfirmed(t *testing.T) {
	for name, after := range map[string]time.Duration{"alone": 0, "in a race": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				unchanged := answer{status: 304, header: http.Header{"Etag": {`"v"`}, "Cache-Control": {"max-age=600"}, "X-New": {"1"}, "Set-Cookie": {"a=b"}}}
				tr, s := through(t, stale(after))
				fillCache(t, tr, s, unchanged, answer{err: errReset}, answer{status: 304}, answer{status: 200, body: "changed"})
				var info Info
				req := request(t, "GET", nil)
				req = req.WithContext(WithInfo(req.Context(), &info))
				resp, err := tr.RoundTrip(req)
				if err != nil || resp.StatusCode != 200 || read(t, resp) != "good" {
					t.Fatalf("got %v, %v; want what is stored", resp, err)
				}
				if got := s.calls[1].header.Get("If-None-Match"); got != `"v"` || req.Header.Get("If-None-Match") != "" {
					t.Errorf("the upstream was asked with %q; the caller's request has %q", got, req.Header.Get("If-None-Match"))
				}
				mark := resp.Header.Get("Cache-Status")
				if info.Served != FromConfirmed || mark != "resagent; fwd=stale; fwd-status=304; ttl=600" || resp.Header.Get("X-New") != "1" ||
					resp.Header.Get("Set-Cookie") != "a=b" || resp.Header.Get("Age") != "0" || resp.Request != req {
					t.Errorf("served %q, %v", info.Served, resp.Header)
				}

				resp, err = tr.RoundTrip(request(t, "GET", nil))
				if err != nil || read(t, resp) != "good" || resp.Header.Get("Set-Cookie") != "" || resp.Header.Get("Age") != "0" {
					t.Errorf("the next failure: %v, %v", resp, err)
				}
				resp, err = tr.RoundTrip(request(t, "GET", nil)) // a 304 without a word about what it means
				if err != nil || resp.StatusCode != 200 || read(t, resp) != "good" {
					t.Errorf("a bare 304: %v, %v", resp, err)
				}
				resp, err = tr.RoundTrip(request(t, "GET", nil))
				if err != nil || read(t, resp) != "changed" {
					t.Errorf("a 200: %v, %v", resp, err)
				}
			})
		})
	}
}

// TestCallersOwnCondition: a 304 that the caller asked for is the caller's.
func TestCallersOwnCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s, answer{status: 304, header: http.Header{"Etag": {`"mine"`}}})
		req := request(t, "GET", nil)
		req.Header.Set("If-None-Match", `"mine"`)
		resp, err := tr.RoundTrip(req)
		if err != nil || resp.StatusCode != 304 || s.calls[1].header.Get("If-None-Match") != `"mine"` {
			t.Errorf("got %v, %v, asked with %q", resp, err, s.calls[1].header)
		}
	})
}
