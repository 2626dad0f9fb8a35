package transport

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// TestUpgrade: 101 keeps its writable body, and holds a permit until it is
// closed.
func TestUpgrade(t *testing.T) {
	tr, srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(conn, "echo "+line)
	}))
	req, err := http.NewRequest("GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	rw, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != 101 {
		t.Fatalf("status %d with a body of type %T that cannot be written", resp.StatusCode, resp.Body)
	}
	io.WriteString(rw, "hello\n")
	if got, err := bufio.NewReader(rw).ReadString('\n'); got != "echo hello\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestUpgradeHalfClose: either end of an upgraded connection may finish before
// the other, through a ReverseProxy too, and a cache leaves it alone.
func TestUpgradeHalfClose(t *testing.T) {
	tr, srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nCache-Control: max-age=60\r\n\r\n")
		all, _ := io.ReadAll(rw) // ends when the client has said everything
		io.WriteString(conn, "echo "+string(all))
	}))
	tr.Policies = compile(t, policies.Policy{
		Match:    []policies.Match{{Host: "127.0.0.1"}},
		Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, ServeFresh: true}},
	})
	target, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	defer proxy.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	for name, rt := range map[string]http.RoundTripper{"transport": tr, "ReverseProxy": base} {
		to := srv.URL
		if name == "ReverseProxy" {
			to = proxy.URL
		}
		req := mustRequest(t, "GET", to, nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		half, ok := resp.Body.(interface {
			io.ReadWriteCloser
			CloseWrite() error
		})
		if !ok {
			t.Errorf("%s: a body of type %T has no CloseWrite", name, resp.Body)
			resp.Body.Close()
			continue
		}
		io.WriteString(half, "hello")
		if err := half.CloseWrite(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := io.ReadAll(half); string(got) != "echo hello" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		half.Close()
	}
}
