package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
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

// again is what two runs of one key, each of which ends so, are told of the one
// before.
func again(end func(http.ResponseWriter, *idempotency.Run)) (marks []bool) {
	h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		run := idempotency.FromContext(r.Context())
		marks = append(marks, run.Again)
		end(w, run)
	}), idempotency.Options{})
	for range 2 {
		func() {
			defer func() { _ = recover() }()
			h.ServeHTTP(httptest.NewRecorder(), request(""))
		}()
	}
	return marks
}

// What a handler that panicked has done nobody knows, nor what another server
// behind one has done that answers 502 or 504; unless it says that it was
// nothing. Of its own no the handler knows.
func TestWhichRunIsMarked(t *testing.T) {
	panics := 0 // in place of a status
	for status, marked := range map[int]bool{panics: true, 429: false, 502: true, 503: false, 504: true} {
		for _, forget := range []bool{false, true} {
			marks := again(func(w http.ResponseWriter, run *idempotency.Run) {
				if forget {
					run.Forget()
				}
				if status == panics {
					panic("x")
				}
				w.WriteHeader(status)
			})
			if want := []bool{false, marked && !forget}; !slices.Equal(marks, want) {
				t.Errorf("%d, forget %v: Run.Again was %v, want %v", status, forget, marks, want)
			}
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

// The client goes away in the midst of a stream: writing goes on without an
// error, and the repetition gets the whole of it.
func TestTheClientGoesWithinAStream(t *testing.T) {
	gone, stored := make(chan bool), make(chan bool, 1)
	s := serve(t, idempotency.Options{Observe: func(e idempotency.Event) {
		if e.Kind == idempotency.Stored {
			stored <- true
		}
	}}, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "one ")
		w.(http.Flusher).Flush()
		<-gone
		for range 1000 {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				t.Errorf("writing: %v", err)
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("flushing: %v", err)
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "k-1")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	resp.Body.Close()
	close(gone)
	<-stored
	if a := s.send("POST", "/", "", key); a.status != 200 || len(a.body) != 4+1000*1000 || s.runs.Load() != 1 {
		t.Errorf("the repetition got %d with %d bytes after %d runs", a.status, len(a.body), s.runs.Load())
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
