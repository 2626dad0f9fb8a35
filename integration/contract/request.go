package contract

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

var requestPoints = []Point{
	{Name: "the caller's request is untouched", Test: untouched},
	{Name: "the caller may read its request meanwhile", Test: readMeanwhile},
	{Name: "callers may share a header map", Test: sharedHeader},
	{Name: "the server sees the request as from the bare base", Test: sameRequest},
	{Name: "a file is sent from where it stands", Test: fileAtOffset},
	{Name: "requests from a server and userinfo add nothing", Test: fromServer},
	{Name: "a base sees the caller's context values", Test: contextValues},
}

// untouched: struct, header, Body field and URL are the caller's afterwards.
func untouched(t *T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for what, c := range map[string]struct {
		base http.RoundTripper // nil: the real one
		path string
		ctx  context.Context
	}{
		"success":        {path: "/echo"},
		"503":            {path: "/status?code=503"},
		"307":            {path: "/status?code=307&to=/echo"},
		"base error":     {base: roundTrip(failing), path: "/"},
		"cancelled":      {path: "/echo", ctx: cancelled},
		"invalid scheme": {path: "gopher://x/"},
	} {
		base := c.base
		if base == nil {
			base = t.base()
		}
		target := c.path
		if strings.HasPrefix(target, "/") {
			target = t.up.url + target
		}
		req := t.request("POST", target, strings.NewReader("body"))
		if c.ctx != nil {
			req = req.WithContext(c.ctx)
		}
		req.URL.User = url.UserPassword("user", "secret")
		req.RequestURI = "/as/received"
		req.Header["x-odd-case"] = []string{"1", "2"}
		req.Trailer = http.Header{"Sum": {"1"}}
		req.ContentLength = -1
		req.TransferEncoding = []string{"chunked"}
		before := photograph(req)
		t.do(t.wrap(base), req)
		before.compare(t, what, req)
	}
}

// photo is a request as it was.
type photo struct {
	shallow         http.Request
	header, trailer http.Header
	url             url.URL
	encoding        []string
	ctx             context.Context
}

func photograph(req *http.Request) photo {
	return photo{*req, req.Header.Clone(), req.Trailer.Clone(), *req.URL, slices.Clone(req.TransferEncoding), req.Context()}
}

func (p photo) compare(t *T, what string, req *http.Request) {
	was, is := reflect.ValueOf(&p.shallow).Elem(), reflect.ValueOf(req).Elem()
	for i := range was.NumField() {
		f := was.Type().Field(i)
		switch {
		case !f.IsExported():
		case f.Type.Kind() == reflect.Func, f.Type.Kind() == reflect.Map, f.Type.Kind() == reflect.Pointer:
			if was.Field(i).Pointer() != is.Field(i).Pointer() {
				t.Errorf("%s: req.%s was replaced", what, f.Name)
			}
		case f.Type.Kind() == reflect.Interface:
			if was.Field(i).Interface() != is.Field(i).Interface() {
				t.Errorf("%s: req.%s was replaced", what, f.Name)
			}
		case !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()):
			t.Errorf("%s: req.%s is %v, was %v", what, f.Name, is.Field(i), was.Field(i))
		}
	}
	same := func(a, b http.Header) bool { return maps.EqualFunc(a, b, slices.Equal) }
	if !same(p.header, req.Header) || !same(p.trailer, req.Trailer) || !slices.Equal(p.encoding, req.TransferEncoding) {
		t.Errorf("%s: req.Header is %v, was %v", what, req.Header, p.header)
	}
	if p.url != *req.URL {
		t.Errorf("%s: req.URL is %v, was %v", what, req.URL, &p.url)
	}
	if p.ctx != req.Context() {
		t.Errorf("%s: the context was replaced", what)
	}
}

// readMeanwhile: the race detector finds who writes to the request.
func readMeanwhile(t *T) {
	for _, base := range []http.RoundTripper{t.base(), roundTrip(failing)} {
		req := t.request("PUT", t.up.url+"/echo", strings.NewReader("body"))
		req.Header.Set("A", "b")
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !stop.Load() {
				_, _ = req.Header["A"], *req.URL
				_, _, _, _ = req.Body, req.GetBody, req.ContentLength, req.Host
			}
		})
		if resp, err := t.do(t.wrap(base), req); err == nil {
			io.Copy(io.Discard, resp.Body)
		}
		stop.Store(true)
		wg.Wait()
	}
}

// sharedHeader: many requests with the same map at a time.
func sharedHeader(t *T) {
	rt := t.wrap(roundTrip(fine))
	header := http.Header{"A": {"b"}}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 8 {
				req := t.request("POST", t.up.url+"/", strings.NewReader("x"))
				req.Header = header
				if resp, err := rt.RoundTrip(req); err != nil {
					t.Errorf("%v", err)
				} else {
					resp.Body.Close()
				}
			}
		})
	}
	wg.Wait()
	if len(header) != 1 {
		t.Errorf("the header map became %v", header)
	}
}

// sameRequest sends all manner of requests to a server that says what it saw.
// Bodies longer or shorter than stated are not among them: what net/http says of
// those depends on which of its goroutines is first.
func sameRequest(t *T) {
	in := func() io.Reader { return strings.NewReader("some body") }
	hidden := func() io.Reader { return struct{ io.Reader }{in()} }
	for what, c := range map[string]struct {
		method, path string
		body         func() io.Reader
		change       func(*http.Request)
	}{
		"GET":                     {method: "GET", path: "/a/b?z=1&a=2&z=0"},
		"no method":               {path: "/"},
		"POST":                    {method: "POST", path: "/", body: in},
		"POST of unknown length":  {method: "POST", path: "/", body: hidden},
		"stated length":           {method: "POST", path: "/", body: hidden, change: func(r *http.Request) { r.ContentLength = 9 }},
		"POST without body":       {method: "POST", path: "/"},
		"NoBody":                  {method: "PUT", path: "/", change: func(r *http.Request) { r.Body = http.NoBody }},
		"length 0 but a body":     {method: "PUT", path: "/", body: hidden, change: func(r *http.Request) { r.ContentLength = 0 }},
		"an empty body":           {method: "PUT", path: "/", body: func() io.Reader { return struct{ io.Reader }{strings.NewReader("")} }, change: func(r *http.Request) { r.ContentLength = 0 }},
		"GET with a body":         {method: "GET", path: "/", body: in},
		"DELETE with a body":      {method: "DELETE", path: "/", body: in},
		"an unknown method":       {method: "PURGE", path: "/x"},
		"OPTIONS":                 {method: "OPTIONS", path: "/"},
		"another Host":            {method: "GET", path: "/", change: func(r *http.Request) { r.Host = "other.example" }},
		"an escaped path":         {method: "GET", path: "/a%2Fb/%C3%A9?q=%20"},
		"an opaque URL":           {method: "GET", path: "/", change: func(r *http.Request) { r.URL.Opaque = "//opaque.example/p%2Fq" }},
		"a fragment":              {method: "GET", path: "/p#frag"},
		"a bare question mark":    {method: "GET", path: "/p?"},
		"fields as written":       {method: "GET", path: "/", change: func(r *http.Request) { r.Header["x-lower"] = []string{"1", "2"} }},
		"no User-Agent":           {method: "GET", path: "/", change: func(r *http.Request) { r.Header["User-Agent"] = nil }},
		"close afterwards":        {method: "GET", path: "/", change: func(r *http.Request) { r.Close = true }},
		"chunked by the caller":   {method: "POST", path: "/", body: in, change: func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }},
		"identity by the caller":  {method: "GET", path: "/", change: func(r *http.Request) { r.Header.Set("Accept-Encoding", "identity") }},
		"a range":                 {method: "GET", path: "/", change: func(r *http.Request) { r.Header.Set("Range", "bytes=1-2") }},
		"preconditions":           {method: "PUT", path: "/", body: in, change: func(r *http.Request) { r.Header.Set("If-Match", `"x"`) }},
		"the caller's own key":    {method: "POST", path: "/", body: in, change: func(r *http.Request) { r.Header.Set("Idempotency-Key", `"mine"`) }},
		"an Expect of 100":        {method: "POST", path: "/", body: in, change: func(r *http.Request) { r.Header.Set("Expect", "100-continue") }},
		"an invalid field":        {method: "GET", path: "/", change: func(r *http.Request) { r.Header["bad field"] = []string{"x"} }},
		"an invalid method":       {method: "GET", path: "/", change: func(r *http.Request) { r.Method = "BAD METHOD" }},
		"a body and a GetBody":    {method: "PUT", path: "/", body: hidden, change: func(r *http.Request) { t.replayable(r, "GetBody", in) }},
		"a large body in memory":  {method: "PUT", path: "/", body: func() io.Reader { return strings.NewReader(strings.Repeat("large", 20000)) }},
		"no host in the URL":      {method: "GET", path: "/", change: func(r *http.Request) { r.URL.Host = "" }},
		"a scheme nobody speaks":  {method: "GET", path: "/", change: func(r *http.Request) { r.URL.Scheme = "gopher" }},
		"a scheme in capitals":    {method: "GET", path: "/", change: func(r *http.Request) { r.URL.Scheme = "HTTP" }},
		"cookies":                 {method: "GET", path: "/", change: func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "a", Value: "b"}) }},
		"no Header map":           {method: "PUT", path: "/", body: in, change: func(r *http.Request) { r.Header = nil }},
		"a Cancel channel unused": {method: "GET", path: "/", change: func(r *http.Request) { r.Cancel = make(chan struct{}) }}, //lint:ignore SA1019 old callers use it
	} {
		t.same(what, func(rt http.RoundTripper, say func(string, ...any)) {
			var body io.Reader
			if c.body != nil {
				body = c.body()
			}
			req := t.request(c.method, t.up.url+c.path, body)
			req.Method = c.method
			if c.change != nil {
				c.change(req)
			}
			resp, err := t.do(rt, req)
			t.describe(resp, err, say)
		})
	}
}

// fileAtOffset: neither rewound nor replaced.
func fileAtOffset(t *T) {
	f, err := os.CreateTemp("", "contract")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString("already read, to be sent"); err != nil {
		t.Fatalf("%v", err)
	}
	if _, err := f.Seek(14, io.SeekStart); err != nil {
		t.Fatalf("%v", err)
	}
	var got string
	rt := t.wrap(roundTrip(func(req *http.Request) (*http.Response, error) {
		data, _ := io.ReadAll(req.Body)
		got = string(data)
		req.Body.Close()
		return fine(t.request("GET", "http://x/", nil))
	}))
	req := t.request("POST", t.up.url+"/", f)
	if _, err := rt.RoundTrip(req); err != nil {
		t.Fatalf("%v", err)
	}
	if got != "to be sent" {
		t.Errorf("the base was given %q", got)
	}
}

// fromServer: as httputil.ReverseProxy calls it.
func fromServer(t *T) {
	t.same("a request from a server", func(rt http.RoundTripper, say func(string, ...any)) {
		req := httptest.NewRequest("POST", t.up.url+"/p?q=1", strings.NewReader("body"))
		req.URL.User = url.UserPassword("user", "secret")
		resp, err := t.do(rt, req)
		if err == nil && resp.StatusCode != 200 {
			t.Errorf("a request with RequestURI got %d", resp.StatusCode)
		}
		t.describe(resp, err, say)
	})
}

// contextValues: tracing libraries live from them.
func contextValues(t *T) {
	type key struct{}
	var got any
	rt := t.wrap(roundTrip(func(req *http.Request) (*http.Response, error) {
		got = req.Context().Value(key{})
		return fine(req)
	}))
	t.do(rt, t.requestWith(context.WithValue(context.Background(), key{}, "trace"), "GET", t.up.url, nil))
	if got != "trace" {
		t.Errorf("the base saw %v in the context", got)
	}
}
