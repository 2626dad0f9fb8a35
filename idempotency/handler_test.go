package idempotency_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/resagent/resagent/idempotency"
)

// server is a handler behind a real server, and how often it ran.
type server struct {
	*httptest.Server
	t    *testing.T
	runs atomic.Int32
}

func serve(t *testing.T, o idempotency.Options, handler http.HandlerFunc) *server {
	s := &server{t: t}
	s.Server = httptest.NewServer(idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.runs.Add(1)
		handler(w, r)
	}), o))
	t.Cleanup(s.Close)
	return s
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	resp   *http.Response
}

// send sends a request; each field is "Name: value".
func (s *server) send(method, target, body string, fields ...string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.URL+target, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data), resp}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Charge", "ch_1")
		w.WriteHeader(code)
		fmt.Fprintf(w, "%d for %s", code, body)
	}
}

const key = `Idempotency-Key: "k-1"`

// The draft and Stripe's rules, case by case: what the second request gets
// after the first, and how often the handler has run.
func TestCases(t *testing.T) {
	type request struct {
		method, target, body string
		fields               []string
	}
	post := request{"POST", "/charges?a=1", "amount=5", []string{key}}
	with := func(r request, change func(*request)) request { change(&r); return r }
	fields := func(f ...string) request { return with(post, func(r *request) { r.fields = f }) }
	for _, c := range []struct {
		name          string
		options       idempotency.Options
		handler       http.HandlerFunc
		first, second request
		status        int // of the second answer
		replayed      bool
		runs          int32
	}{
		{name: "draft 2.6: a repetition gets the first's result", first: post, second: post, status: 201, replayed: true, runs: 1},
		{name: "draft 2.6: an error is a result", handler: status(404), first: post, second: post, status: 404, replayed: true, runs: 1},
		{name: "draft 2.7: another body is 422", first: post, second: with(post, func(r *request) { r.body = "amount=6" }), status: 422, runs: 1},
		{name: "draft 2.7: another path is 422", first: post, second: with(post, func(r *request) { r.target = "/refunds?a=1" }), status: 422, runs: 1},
		{name: "draft 2.7: another query is 422", first: post, second: with(post, func(r *request) { r.target = "/charges?a=2" }), status: 422, runs: 1},
		{name: "draft 2.7: another method is 422", first: post, second: with(post, func(r *request) { r.method = "PATCH" }), status: 422, runs: 1},
		{name: "draft 2.7: missing where required is 400", options: idempotency.Options{Required: true}, first: post, second: fields(), status: 400, runs: 1},
		{name: "missing where not required goes through", first: fields(), second: fields(), status: 201, runs: 2},
		{name: "another key is another request", first: post, second: fields(`Idempotency-Key: "k-2"`), status: 201, runs: 2},
		{name: "a bare key is the same as a quoted one", first: post, second: fields("Idempotency-Key: k-1"), status: 201, replayed: true, runs: 1},
		{name: "parameters do not count", first: post, second: fields(`Idempotency-Key: "k-1";v=1`), status: 201, replayed: true, runs: 1},
		{name: "another client's key is another key", first: fields(key, "Authorization: Bearer a"), second: fields(key, "Authorization: Bearer b"), status: 201, runs: 2},
		{name: "the same client's key", first: fields(key, "Authorization: Bearer a"), second: fields(key, "Authorization: Bearer a"), status: 201, replayed: true, runs: 1},
		{name: "a scope of the server's", options: idempotency.Options{Scope: func(r *http.Request) string { return r.Header.Get("Tenant") }},
			first: fields(key, "Tenant: a"), second: fields(key, "Tenant: b"), status: 201, runs: 2},
		{name: "a field that is not chosen may differ", first: post, second: fields(key, "Traceparent: 1"), status: 201, replayed: true, runs: 1},
		{name: "a chosen field must not", options: idempotency.Options{Fields: []string{"api-version"}},
			first: fields(key, "Api-Version: 1"), second: fields(key, "Api-Version: 2"), status: 422, runs: 1},
		{name: "another header name", options: idempotency.Options{Header: "x-request-key"},
			first: fields("X-Request-Key: 1"), second: fields("X-Request-Key: 1"), status: 201, replayed: true, runs: 1},
		{name: "GET goes through", first: with(post, func(r *request) { r.method = "GET" }), second: with(post, func(r *request) { r.method = "GET" }), status: 201, runs: 2},
		{name: "PUT where it is asked for", options: idempotency.Options{Methods: []string{"PUT"}},
			first: with(post, func(r *request) { r.method = "PUT" }), second: with(post, func(r *request) { r.method = "PUT" }), status: 201, replayed: true, runs: 1},
		{name: "Stripe: a 500 is stored", handler: status(500), first: post, second: post, status: 500, replayed: true, runs: 1},
		{name: "Stripe: 400 of the operation is stored", handler: status(400), first: post, second: post, status: 400, replayed: true, runs: 1},
		{name: "Stripe: nothing is stored of a failed validation", first: post, second: post, status: 400, runs: 2,
			handler: func(w http.ResponseWriter, r *http.Request) {
				idempotency.FromContext(r.Context()).Forget()
				http.Error(w, "no amount", 400)
			}},
		{name: "Stripe: after a failed validation the request may be mended", first: post, second: with(post, func(r *request) { r.body = "amount=6" }), status: 429, runs: 2, handler: status(429)},
		{name: "429 frees the key", handler: status(429), first: post, second: post, status: 429, runs: 2},
		{name: "502 frees the key", handler: status(502), first: post, second: post, status: 502, runs: 2},
		{name: "503 frees the key", handler: status(503), first: post, second: post, status: 503, runs: 2},
		{name: "504 frees the key", handler: status(504), first: post, second: post, status: 504, runs: 2},
		{name: "what frees the key can be chosen", options: idempotency.Options{Release: func(int) bool { return false }}, handler: status(503), first: post, second: post, status: 503, replayed: true, runs: 1},
		{name: "a key of 255 bytes", first: fields("Idempotency-Key: " + strings.Repeat("a", 255)), second: fields("Idempotency-Key: " + strings.Repeat("a", 255)), status: 201, replayed: true, runs: 1},
		{name: "a key of 256 bytes", first: post, second: fields("Idempotency-Key: " + strings.Repeat("a", 256)), status: 400, runs: 1},
		{name: "a key of 10,000 bytes", first: post, second: fields("Idempotency-Key: " + strings.Repeat("a", 10_000)), status: 400, runs: 1},
		{name: "an empty key", first: post, second: fields("Idempotency-Key: "), status: 400, runs: 1},
		{name: "an empty quoted key", first: post, second: fields(`Idempotency-Key: ""`), status: 400, runs: 1},
		{name: "two fields", first: post, second: fields(key, key), status: 400, runs: 1},
		{name: "quotes never closed", first: post, second: fields(`Idempotency-Key: "k-1`), status: 400, runs: 1},
		{name: "quotes never opened", first: post, second: fields(`Idempotency-Key: k-1"`), status: 400, runs: 1},
		{name: "a list", first: post, second: fields(`Idempotency-Key: k-1, k-2`), status: 400, runs: 1},
		{name: "a tab within", first: post, second: fields("Idempotency-Key: \"k\t1\""), status: 400, runs: 1},
		{name: "not ASCII", first: post, second: fields("Idempotency-Key: kü"), status: 400, runs: 1},
		{name: "a body over the bound", options: idempotency.Options{MaxBody: 10}, first: post, second: with(post, func(r *request) { r.body = "amount=5000" }), status: 413, runs: 1},
		{name: "an answer over the bound is not kept", options: idempotency.Options{MaxResponse: 5}, first: post, second: post, status: 410, replayed: true, runs: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			handler := c.handler
			if handler == nil {
				handler = status(201)
			}
			s := serve(t, c.options, handler)
			first := s.send(c.first.method, c.first.target, c.first.body, c.first.fields...)
			second := s.send(c.second.method, c.second.target, c.second.body, c.second.fields...)
			if idempotency.Replayed(first.resp) {
				t.Error("the first answer is marked as replayed")
			}
			if second.status != c.status || idempotency.Replayed(second.resp) != c.replayed || s.runs.Load() != c.runs {
				t.Errorf("the second answer is %d, replayed %v, after %d runs; want %d, %v, %d\n%s", second.status,
					idempotency.Replayed(second.resp), s.runs.Load(), c.status, c.replayed, c.runs, second.body)
			}
			if c.replayed && c.status != 410 && (second.body != first.body || second.header.Get("Charge") != first.header.Get("Charge")) {
				t.Errorf("first %q %v, then %q %v", first.body, first.header, second.body, second.header)
			}
			if ours := second.header.Get("Charge") == "" && c.handler == nil; ours {
				var p struct{ Status int }
				if err := json.Unmarshal([]byte(second.body), &p); err != nil || p.Status != c.status || second.header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("no problem of RFC 9457: %v, %v, %s", err, second.header, second.body)
				}
			}
		})
	}
}

// 100 at once with one key: one runs, the others are told to come back, and
// get the same answer then.
func TestOneOfManyRuns(t *testing.T) {
	const callers = 100
	refused := make(chan bool, callers)
	o := idempotency.Options{Observe: func(e idempotency.Event) {
		if e.Kind == idempotency.Conflict {
			refused <- true
		}
	}}
	s := serve(t, o, func(w http.ResponseWriter, r *http.Request) {
		for range callers - 1 {
			<-refused
		}
		w.WriteHeader(201)
	})
	var wg sync.WaitGroup
	var created, conflict atomic.Int32
	for range callers {
		wg.Go(func() {
			switch a := s.send("POST", "/", "", key); {
			case a.status == 201:
				created.Add(1)
			case a.status == 409 && a.header.Get("Retry-After") == "1":
				conflict.Add(1)
			default:
				t.Errorf("%d, %v", a.status, a.header)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 || conflict.Load() != callers-1 || s.runs.Load() != 1 {
		t.Errorf("%d created, %d conflicts, %d runs; want 1, %d, 1", created.Load(), conflict.Load(), s.runs.Load(), callers-1)
	}
	if a := s.send("POST", "/", "", key); a.status != 201 || !idempotency.Replayed(a.resp) {
		t.Errorf("afterwards: %d, %v", a.status, a.header)
	}
}

func TestAPanicFreesTheKey(t *testing.T) {
	for _, keep := range []bool{false, true} {
		h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic("x") }), idempotency.Options{KeepPanics: keep})
		ask := func() (w *httptest.ResponseRecorder, panicked any) {
			w = httptest.NewRecorder()
			defer func() { panicked = recover() }()
			h.ServeHTTP(w, request(""))
			return w, nil
		}
		if _, panicked := ask(); panicked != "x" {
			t.Errorf("the panic became %v", panicked)
		}
		if w, panicked := ask(); (panicked == nil) != keep || keep && w.Code != 500 {
			t.Errorf("KeepPanics %v: the second request panicked with %v and answered %d", keep, panicked, w.Code)
		}
	}
}

func request(body string) *http.Request {
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", "k-1")
	return r
}

// The client goes away while the handler runs: its result is stored.
func TestTheClientGoes(t *testing.T) {
	began, gone := make(chan bool), make(chan bool)
	stored := make(chan bool, 1)
	s := serve(t, idempotency.Options{Observe: func(e idempotency.Event) {
		if e.Kind == idempotency.Stored {
			stored <- true
		}
	}}, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-gone
		if err := r.Context().Err(); err != nil {
			t.Errorf("the handler's context ended with its client: %v", err)
		}
		w.WriteHeader(201)
	})
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "k-1")
	go func() { <-began; cancel() }()
	if _, err := s.Client().Do(req); err == nil {
		t.Fatal("the cancelled request was answered")
	}
	close(gone)
	<-stored
	if a := s.send("POST", "/", "", key); a.status != 201 || s.runs.Load() != 1 {
		t.Errorf("the repetition got %d after %d runs", a.status, s.runs.Load())
	}
}

// What streams arrives at once, and is recorded; so are trailers.
func TestStreaming(t *testing.T) {
	next := make(chan bool)
	s := serve(t, idempotency.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Checksum")
		io.WriteString(w, "one ")
		w.(http.Flusher).Flush()
		<-next
		io.WriteString(w, "two")
		w.Header().Set("Checksum", "7")
		w.Header().Set(http.TrailerPrefix+"Late", "8")
	})
	req, _ := http.NewRequest("POST", s.URL, nil)
	req.Header.Set("Idempotency-Key", "k-1")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 4)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "one " {
		t.Fatalf("before the handler's end: %q, %v", first, err)
	}
	close(next)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || string(rest) != "two" || resp.Trailer.Get("Checksum") != "7" || resp.Trailer.Get("Late") != "8" {
		t.Errorf("streamed %q, trailer %v, %v", rest, resp.Trailer, err)
	}
	if a := s.send("POST", "/", "", key); a.body != "one two" || a.resp.Trailer.Get("Checksum") != "7" || a.resp.Trailer.Get("Late") != "8" || s.runs.Load() != 1 {
		t.Errorf("replayed %q, trailer %v, after %d runs", a.body, a.resp.Trailer, s.runs.Load())
	}
}

func TestHijackIsRefused(t *testing.T) {
	s := serve(t, idempotency.Options{}, func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack gave %v", err)
		}
		w.WriteHeader(201)
	})
	if a := s.send("POST", "/", "", key); a.status != 201 {
		t.Errorf("status %d", a.status)
	}
}

// A slow handler keeps its key: the lease is renewed.
func TestTheLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sleep(r, 100)
			w.WriteHeader(201)
		}), idempotency.Options{})
		var wg sync.WaitGroup
		wg.Go(func() { h.ServeHTTP(httptest.NewRecorder(), request("")) })
		for range 9 {
			sleep(nil, 10)
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, request("")); w.Code != 409 {
				t.Errorf("while the first runs: %d", w.Code)
			}
		}
		wg.Wait()
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, request("")); w.Code != 201 {
			t.Errorf("afterwards: %d", w.Code)
		}
	})
}
