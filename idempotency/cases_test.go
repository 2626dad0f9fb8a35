package idempotency_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/idempotency"
)

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
		{name: "draft 2.2: keys are compared as they are, with their case", first: post, second: fields(`Idempotency-Key: "K-1"`), status: 201, runs: 2},
		{name: "draft 2.7: malformed is 400, also where no key is required", first: post, second: fields(`Idempotency-Key: "k`), status: 400, runs: 1},
		{name: "a redirect is a result", handler: status(303), first: post, second: post, status: 303, replayed: true, runs: 1},
		{name: "Stripe: DELETE goes through", first: with(post, func(r *request) { r.method = "DELETE" }), second: with(post, func(r *request) { r.method = "DELETE" }), status: 201, runs: 2},
		{name: "Stripe: GET goes through", first: with(post, func(r *request) { r.method = "GET" }), second: with(post, func(r *request) { r.method = "GET" }), status: 201, runs: 2},
		{name: "PUT where it is asked for", options: idempotency.Options{Methods: []string{"PUT"}},
			first: with(post, func(r *request) { r.method = "PUT" }), second: with(post, func(r *request) { r.method = "PUT" }), status: 201, replayed: true, runs: 1},
		{name: "Stripe: a 500 is stored", handler: status(500), first: post, second: post, status: 500, replayed: true, runs: 1},
		{name: "Stripe: 400 of the operation is stored", handler: status(400), first: post, second: post, status: 400, replayed: true, runs: 1},
		{name: "Stripe: nothing is stored of a failed validation", first: post, second: post, status: 400, runs: 2,
			handler: func(w http.ResponseWriter, r *http.Request) {
				idempotency.FromContext(r.Context()).Forget()
				http.Error(w, "no amount", 400)
			}},
		{name: "Stripe: after a failed validation the request may be mended", first: with(post, func(r *request) { r.body = "" }), second: post, status: 201, runs: 2,
			handler: func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); len(body) == 0 {
					idempotency.FromContext(r.Context()).Forget()
					http.Error(w, "no amount", 400)
					return
				}
				w.WriteHeader(201)
			}},
		{name: "429 frees the key", handler: status(429), first: post, second: post, status: 429, runs: 2},
		{name: "502 frees the key", handler: status(502), first: post, second: post, status: 502, runs: 2},
		{name: "503 frees the key", handler: status(503), first: post, second: post, status: 503, runs: 2},
		{name: "504 frees the key", handler: status(504), first: post, second: post, status: 504, runs: 2},
		{name: "what frees the key can be chosen", options: idempotency.Options{Release: func(int) bool { return false }}, handler: status(503), first: post, second: post, status: 503, replayed: true, runs: 1},
		{name: "Stripe: a key of 255 bytes", first: fields("Idempotency-Key: " + strings.Repeat("a", 255)), second: fields("Idempotency-Key: " + strings.Repeat("a", 255)), status: 201, replayed: true, runs: 1},
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

// The cases of the draft and of Stripe's rules in which time goes on: a run of
// five seconds, and who asks when.
func TestCasesInTime(t *testing.T) {
	type want struct {
		at       time.Duration // since the first request
		body     string
		status   int
		replayed bool
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name    string
		options idempotency.Options
		status  int // of the handler
		wants   []want
		runs    int
	}{
		{"draft 2.6: a concurrent request is 409, and gets the result afterwards", idempotency.Options{}, 201,
			[]want{{time.Second, "a", 409, false}, {6 * time.Second, "a", 201, true}}, 1},
		{"draft 2.7: another concurrent request is 422, and leaves the first's result", idempotency.Options{}, 201,
			[]want{{time.Second, "b", 422, false}, {6 * time.Second, "b", 422, false}, {7 * time.Second, "a", 201, true}}, 1},
		{"Stripe: a conflict is not stored, where the first frees the key", idempotency.Options{}, 503,
			[]want{{time.Second, "a", 409, false}, {6 * time.Second, "a", 503, false}}, 2},
		{"Stripe: for 24 hours the result is given", idempotency.Options{}, 500,
			[]want{{day, "a", 500, true}}, 1},
		{"Stripe: after 24 hours the key is new, for any request", idempotency.Options{}, 201,
			[]want{{day + 6*time.Second, "b", 201, false}, {day + 12*time.Second, "a", 422, false}}, 2},
		{"draft 2.3: the server says when keys expire", idempotency.Options{TTL: time.Minute}, 201,
			[]want{{time.Minute, "a", 201, true}, {2 * time.Minute, "a", 201, false}}, 2},
		{"a replay does not lengthen a key's life", idempotency.Options{TTL: time.Minute}, 201,
			[]want{{50 * time.Second, "a", 201, true}, {70 * time.Second, "a", 201, false}}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runs := 0
				h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					runs++
					time.Sleep(5 * time.Second)
					w.WriteHeader(c.status)
				}), c.options)
				began := time.Now()
				go h.ServeHTTP(httptest.NewRecorder(), request("a"))
				for _, want := range c.wants {
					time.Sleep(time.Until(began.Add(want.at)))
					w := httptest.NewRecorder()
					h.ServeHTTP(w, request(want.body))
					if got := w.Result(); got.StatusCode != want.status || idempotency.Replayed(got) != want.replayed {
						t.Errorf("%q after %v: %d, replayed %v; want %d, %v", want.body, want.at, got.StatusCode, idempotency.Replayed(got), want.status, want.replayed)
					} else if (want.status == 409) != (got.Header.Get("Retry-After") == "1") && want.status != 503 {
						t.Errorf("%d with Retry-After %q", want.status, got.Header.Get("Retry-After"))
					}
				}
				if runs != c.runs {
					t.Errorf("%d runs, want %d", runs, c.runs)
				}
			})
		})
	}
}
