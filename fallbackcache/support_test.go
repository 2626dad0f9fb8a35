package fallbackcache

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// start is when the first response arrives in these tests.
var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const page = "http://upstream.test/page?b=2&a=1"

// request makes a request; fields are "Name: value".
func request(t testing.TB, method, url string, fields ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header(t, fields...)
	return req
}

func get(t testing.TB, url string, fields ...string) *http.Request {
	t.Helper()
	return request(t, "GET", url, fields...)
}

func header(t testing.TB, fields ...string) http.Header {
	t.Helper()
	h := http.Header{}
	for _, f := range fields {
		name, value, ok := strings.Cut(f, ":")
		if !ok {
			t.Fatalf("field %q has no colon", f)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

// response is one as net/http makes it, of known length.
func response(t testing.TB, req *http.Request, status int, body string, fields ...string) *http.Response {
	t.Helper()
	resp := &http.Response{
		Status:        http.StatusText(status),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header(t, fields...),
		Body:          http.NoBody,
		ContentLength: int64(len(body)),
		Request:       req,
	}
	if body != "" {
		resp.Body = io.NopCloser(strings.NewReader(body))
	}
	return resp
}

// keep lets the cache see a response and reads it to its end.
func keep(t testing.TB, c *Cache, now time.Time, req *http.Request, status int, body string, fields ...string) {
	t.Helper()
	if got := drain(t, c.Keep(req, response(t, req, status, body, fields...), now)); got != body {
		t.Fatalf("the caller read %q through the cache, want %q", got, body)
	}
}

func drain(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatalf("closing the body: %v", err)
	}
	return string(b)
}

// found returns the body of the answer to req, or "none".
func found(t testing.TB, c *Cache, now time.Time, maxStale time.Duration, req *http.Request) string {
	t.Helper()
	a, ok := c.Find(req, maxStale, now)
	if !ok {
		return "none"
	}
	return drain(t, a.Response(req, Outcome{}))
}

// recording is what all recordings hold. What was forgotten gives its room back
// on a goroutine of the runtime's, at any time.
func recording(c *Cache) int64 {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	return c.memory.recording
}
