package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"

	"github.com/resagent/resagent/policies"
)

// TestBadCertificate is not retried: it would be as bad again.
func TestBadCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := &Transport{Base: base, Agent: alone(t)}
	var info Info
	req, err := http.NewRequestWithContext(WithInfo(context.Background(), &info), "GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.RoundTrip(req); err == nil || !badCertificate(err) || !neverSent(err) {
		t.Errorf("got %v, want a certificate error", err)
	}
	if info.Attempts != 1 {
		t.Errorf("%d attempts, want 1", info.Attempts)
	}
}

// TestDialErrorOfPost is retried: nothing left this host.
func TestDialErrorOfPost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	base := &http.Transport{}
	tr := &Transport{Base: base, Agent: alone(t), random: func() float64 { return 0 }}
	var info Info
	src := &tracked{Reader: strings.NewReader("body")}
	req, err := http.NewRequestWithContext(WithInfo(context.Background(), &info), "POST", url, src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.RoundTrip(req); err == nil || !neverSent(err) {
		t.Errorf("got %v, want a dial error", err)
	}
	if info.Attempts != 3 || src.times.Load() != 1 {
		t.Errorf("%d attempts, body closed %d times; want 3 and 1", info.Attempts, src.times.Load())
	}
}

// TestNotTLS: speaking TLS to a plain server never sent the request.
func TestNotTLS(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	_, err := base.RoundTrip(mustRequest(t, "GET", "https://"+srv.Listener.Addr().String(), nil))
	if err == nil || !neverSent(err) {
		t.Errorf("got %v, want what never sent", err)
	}
}

// TestSOCKSRefuses: nothing is sent through a SOCKS proxy that has no connection
// to the upstream (RFC 1928, reply 5).
func TestSOCKSRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		ask := make([]byte, 100)
		conn.Read(ask)
		conn.Write([]byte{5, 0})
		conn.Read(ask)
		conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
	}()
	base := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: l.Addr().String()})}
	_, err = base.RoundTrip(mustRequest(t, "GET", host, nil))
	if err == nil || !strings.Contains(err.Error(), "refused") || !neverSent(err) {
		t.Errorf("got %v, want what never sent", err)
	}
}

// TestHTTP2 retries, with and without GetBody, and gives trailers through.
func TestHTTP2(t *testing.T) {
	fails := make(chan struct{}, 2)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		select {
		case <-fails:
			w.WriteHeader(503)
		default:
			w.Header().Set("Trailer", "Sum")
			fmt.Fprintf(w, "%s %s", r.Proto, data)
			w.Header().Set("Sum", "42")
		}
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	tr := &Transport{Base: srv.Client().Transport, Agent: alone(t), random: func() float64 { return 0 }}
	for name, body := range map[string]io.Reader{
		"GetBody": strings.NewReader("data"),
		"kept":    io.MultiReader(strings.NewReader("da"), strings.NewReader("ta")),
	} {
		fails <- struct{}{}
		resp, err := tr.RoundTrip(mustRequest(t, "PUT", srv.URL, body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := read(t, resp); got != "HTTP/2.0 data" || resp.Trailer.Get("Sum") != "42" {
			t.Errorf("%s: got %q with trailer %v", name, got, resp.Trailer)
		}
	}
}

// TestTrace: the caller's httptrace sees what the bare base shows, and a 1xx
// goes through.
func TestTrace(t *testing.T) {
	tr, srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "x")
	}))
	var conns, hints int
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotConn:        func(httptrace.GotConnInfo) { conns++ },
		Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
	})
	resp, err := tr.RoundTrip(mustRequest(t, "GET", srv.URL, nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp)
	if conns != 1 || hints != 1 {
		t.Errorf("%d connections and %d early hints were traced, want 1 and 1", conns, hints)
	}
}

// TestHalfBodyIsAFailure: a body that breaks after good headers counts.
func TestHalfBodyIsAFailure(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(misbehave))
	defer srv.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, policies.Policy{
		Match: []policies.Match{{Host: "127.0.0.1"}}, CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1}})}
	resp, err := tr.RoundTrip(mustRequest(t, "GET", srv.URL+"/?kind=half", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading half a body: %v", err)
	}
	resp.Body.Close()
	if _, err := tr.RoundTrip(mustRequest(t, "GET", srv.URL, nil)); !errors.Is(err, ErrCircuitOpen) {
		t.Errorf("afterwards: %v, want the circuit open", err)
	}
}

// TestHalfBodyOfACallerWhoLeft does not.
func TestHalfBodyOfACallerWhoLeft(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(misbehave))
	defer srv.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, policies.Policy{
		Match: []policies.Match{{Host: "127.0.0.1"}}, CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1}})}
	ctx, cancel := context.WithCancel(context.Background())
	resp, err := tr.RoundTrip(mustRequest(t, "GET", srv.URL+"/?kind=silent", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("reading after the cancel: %v", err)
	}
	resp.Body.Close()
	resp, err = tr.RoundTrip(mustRequest(t, "GET", srv.URL, nil))
	if err != nil {
		t.Fatalf("afterwards: %v", err)
	}
	resp.Body.Close()
}
