package contract_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/resagent/resagent/integration/contract"
)

// both gives the bare transport and ours with every layer on: what callers see
// through them is compared.
func both(t *testing.T) map[string]http.RoundTripper {
	_, p := combination(1<<len(layers) - 1)
	p.Idempotency = nil // the one that changes requests
	bases := [2]*http.Transport{{}, {}}
	t.Cleanup(func() { bases[0].CloseIdleConnections(); bases[1].CloseIdleConnections() })
	return map[string]http.RoundTripper{"bare": bases[0], "ours": ours(t, p)(bases[1])}
}

var quiet = log.New(io.Discard, "", 0)

// TestReverseProxy: the upstream is called by an httputil.ReverseProxy with
// ours, and the proxy by a plain client.
func TestReverseProxy(t *testing.T) {
	up := contract.Start()
	t.Cleanup(up.Close)
	target, err := url.Parse(up.URL())
	if err != nil {
		t.Fatal(err)
	}
	for name, rt := range both(t) {
		t.Run(name, func(t *testing.T) {
			proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: rt, ErrorLog: quiet, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
			defer proxy.Close()
			client := proxy.Client()
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

			resp, body := call(t, client, "POST", proxy.URL+"/p?q=1", "data")
			if resp.StatusCode != 200 || !strings.HasPrefix(body, "POST /p?q=1 HTTP/1.1") {
				t.Errorf("a POST: %d %q", resp.StatusCode, body)
			}
			resp, body = call(t, client, "POST", proxy.URL+"/trailers", "data")
			if got := resp.Trailer; got.Get("Sum") != "42" || got.Get("Late") != "said late" {
				t.Errorf("trailers: %v after %q", got, body)
			}
			resp, _ = call(t, client, "GET", proxy.URL+"/status?code=307&to=/x", "")
			if resp.StatusCode != 307 || resp.Header.Get("Location") != "/x" {
				t.Errorf("a redirect: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
			}
			resp, body = call(t, client, "POST", proxy.URL+"/status?code=503", "data")
			if resp.StatusCode != 503 || body != "this is 503" {
				t.Errorf("a failure: %d %q", resp.StatusCode, body)
			}
			if err := readAll(client, proxy.URL+"/half"); err == nil {
				t.Error("an answer that broke off reached the client as whole")
			}
			hints(t, client, proxy.URL)
			socket(t, client, proxy.URL)
		})
	}
}

// call sends and reads.
func call(t *testing.T, client *http.Client, method, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: %v", method, url, err)
	}
	resp.Body.Close()
	return resp, string(data)
}

// readAll says what became of a response.
func readAll(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	return err
}

// hints: the proxy passes 103 on by httptrace.
func hints(t *testing.T, client *http.Client, url string) {
	t.Helper()
	var codes []int
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { codes = append(codes, code); return nil },
	})
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/hints", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !slices.Equal(codes, []int{103, 102}) {
		t.Errorf("1xx through the proxy: %v, want 103 and 102", codes)
	}
}

// socket: the proxy copies both ways over the body of a 101.
func socket(t *testing.T, client *http.Client, url string) {
	t.Helper()
	req, err := http.NewRequest("GET", url+"/upgrade", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "repeat")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	rw, ok := resp.Body.(io.ReadWriter)
	if !ok || resp.StatusCode != 101 {
		t.Fatalf("an upgrade through the proxy: %d with a body of type %T", resp.StatusCode, resp.Body)
	}
	lines := bufio.NewReader(rw)
	for i := range 3 {
		fmt.Fprintf(rw, "line %d\n", i)
		if got, err := lines.ReadString('\n'); got != fmt.Sprintf("heard line %d\n", i) {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// TestCookiesAndRedirects: an http.Client that logs in, keeps its cookie over
// redirects, and sends a body again where 307 asks for it.
func TestCookiesAndRedirects(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: r.FormValue("user"), Path: "/"})
		http.Redirect(w, r, "/home", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /home", func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie("session")
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, "home of %s, from %q", c.Value, r.Referer())
	})
	mux.HandleFunc("POST /moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/here", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("POST /here", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	for name, rt := range both(t) {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: rt, Jar: jar}
		resp, err := client.PostForm(srv.URL+"/login", url.Values{"user": {"ada"}})
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf("home of ada, from %q", srv.URL+"/login"); string(data) != want || resp.Request.URL.Path != "/home" {
			t.Errorf("%s: got %q at %s, want %q", name, data, resp.Request.URL, want)
		}
		if resp, body := call(t, client, "POST", srv.URL+"/moved", "carried on"); body != "carried on" || resp.Request.URL.Path != "/here" {
			t.Errorf("%s: after a 307: %d %q", name, resp.StatusCode, body)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/home", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Do(req); err == nil || !strings.Contains(err.Error(), "context canceled") {
			t.Errorf("%s: a cancelled call gives %v", name, err)
		}
	}
}
