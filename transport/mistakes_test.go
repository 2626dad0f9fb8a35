package transport

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/resagent/resagent/policies"
)

// TestMistakesAreTheCallers: a request that net/http does not send, or not as it
// was said, is neither repeated nor a failure of the upstream. A gateway's
// circuit would be open for all because of one client's cookies.
func TestMistakesAreTheCallers(t *testing.T) {
	for _, two := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
		srv.EnableHTTP2 = two
		srv.StartTLS()
		defer srv.Close()
		for name, change := range map[string]func(*http.Request){
			"field value":       func(r *http.Request) { r.Header["X"] = []string{"a\nb"} },
			"field name":        func(r *http.Request) { r.Header["X Y"] = []string{"a"} },
			"method":            func(r *http.Request) { r.Method = "P T" },
			"trailer":           func(r *http.Request) { r.Trailer = http.Header{"Content-Length": nil} },
			"body too short":    func(r *http.Request) { r.ContentLength = 5 },
			"body too long":     func(r *http.Request) { r.ContentLength = 2 },
			"no body":           func(r *http.Request) { r.ContentLength, r.Body, r.GetBody = 5, nil, nil },
			"cookies":           func(r *http.Request) { r.Header.Set("Cookie", strings.Repeat("x", 2<<20)) },
			"connection":        func(r *http.Request) { r.Header.Set("Connection", "foo") },
			"transfer encoding": func(r *http.Request) { r.Header.Set("Transfer-Encoding", "gzip") },
			"path":              func(r *http.Request) { r.URL.Opaque = "no path" },
			"host":              func(r *http.Request) { r.Host = "a\nb" },
		} {
			t.Run(fmt.Sprintf("http2=%v %s", two, name), func(t *testing.T) {
				tr := &Transport{Base: srv.Client().Transport, Agent: alone(t)}
				good := func() {
					t.Helper()
					resp, err := tr.RoundTrip(mustRequest(t, "GET", srv.URL, nil))
					if err != nil {
						t.Fatalf("a good request: %v", err)
					}
					resp.Body.Close()
				}
				good() // over HTTP/2 the client now knows what the server takes
				var info Info
				repeated := 0
				for range 25 {
					req := mustRequest(t, "PUT", srv.URL, io.MultiReader(strings.NewReader("abc")))
					change(req)
					resp, err := tr.RoundTrip(req.WithContext(WithInfo(t.Context(), &info)))
					if err == nil { // net/http leaves it out, or the server sees it
						resp.Body.Close()
						return
					}
					if info.Attempts > 1 {
						repeated++
					}
					if errors.Is(err, ErrCircuitOpen) || repeated > 5 { // net/http may hear of the broken connection first
						t.Fatalf("%d attempts: %v", info.Attempts, err)
					}
				}
				good()
			})
		}
	}
}

// TestBrokenStreams: bodies that break are the upstream's failures, but not
// those that stay open for long, which all break at once when it restarts.
func TestBrokenStreams(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		kind   string
		counts bool
	}{
		"answer":       {200, "text/plain", true},
		"event stream": {200, "text/event-stream", false},
		"gRPC":         {200, "application/grpc", false},
		"WebSocket":    {101, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			broken := func(req *http.Request) (*http.Response, error) {
				body := io.NopCloser(io.MultiReader(strings.NewReader("half"), &errReader{errReset}))
				return &http.Response{StatusCode: tc.status, Header: http.Header{"Content-Type": {tc.kind}}, Body: body, Request: req}, nil
			}
			tr, _ := through(t, policies.Policy{}, answer{do: broken})
			var info Info
			for range 25 {
				resp, err := tr.RoundTrip(get(t).WithContext(WithInfo(t.Context(), &info)))
				if err != nil {
					break
				}
				if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, errReset) {
					t.Errorf("the body gives %v", err)
				}
				resp.Body.Close()
			}
			if open := info.Breaker == "open"; open != tc.counts {
				t.Errorf("the circuit is %s; want it open: %v", info.Breaker, tc.counts)
			}
		})
	}
}
