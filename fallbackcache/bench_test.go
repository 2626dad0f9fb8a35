package fallbackcache

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

var tenKiB = strings.Repeat("0123456789", 1024)

// What a JSON API's answer looks like.
var usual = []string{
	"Content-Type: application/json", "Date: Mon, 23 Nov 2026 12:00:00 GMT", `ETag: "abc"`, "Server: nginx",
	"Cache-Control: max-age=60", "Vary: Accept-Encoding", "X-Request-Id: 0123456789",
}

func asking(b *testing.B, fields ...string) *http.Request {
	return get(b, page, append(fields, "Accept: application/json", "User-Agent: test", "X-Trace: 1")...)
}

func BenchmarkHit10KiB(b *testing.B) {
	for name, fields := range map[string][]string{"anonymous": nil, "authorized": {"Authorization: Bearer abcdefghijklmnopqrstuvwxyz"}} {
		b.Run(name, func(b *testing.B) {
			cache := new(Cache)
			req := asking(b, fields...)
			keep(b, cache, start, req, 200, tenKiB, usual...)
			p := make([]byte, 16<<10)
			b.ReportAllocs()
			for b.Loop() {
				a, ok := cache.Find(req, time.Hour, start.Add(time.Minute))
				if !ok {
					b.Fatal("nothing is found")
				}
				resp := a.Response(req, Outcome{Attempted: true, Status: 503})
				for {
					if _, err := resp.Body.Read(p); err == io.EOF {
						break
					}
				}
				resp.Body.Close()
			}
		})
	}
}

func BenchmarkFindNothing(b *testing.B) {
	cache := new(Cache)
	keep(b, cache, start, get(b, "http://upstream.test/other"), 200, "x")
	req := asking(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := cache.Find(req, time.Hour, start); ok {
			b.Fatal("something is found")
		}
	}
}

// What the cache costs on answers that it does not store.
func BenchmarkKeepNotStored(b *testing.B) {
	for name, c := range map[string]struct {
		status int
		field  string
	}{"no-store": {200, "Cache-Control: no-store"}, "failure": {503, "Retry-After: 1"}} {
		b.Run(name, func(b *testing.B) {
			cache := new(Cache)
			keep(b, cache, start, get(b, "http://upstream.test/other"), 200, "x")
			req := asking(b)
			resp := response(b, req, c.status, "x", append(usual[:4:4], c.field)...)
			b.ReportAllocs()
			for b.Loop() {
				if cache.Keep(req, resp, start) != resp {
					b.Fatal("it is being stored")
				}
			}
		})
	}
}

type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(len(p), z.left)
	z.left -= n
	if z.left == 0 {
		return n, io.EOF
	}
	return n, nil
}
func (*zeros) Close() error { return nil }

func BenchmarkStore10KiB(b *testing.B) {
	cache := new(Cache)
	req := asking(b)
	resp := response(b, req, 200, tenKiB, usual...)
	p := make([]byte, 16<<10)
	b.ReportAllocs()
	for b.Loop() {
		resp.Body = &zeros{left: len(tenKiB)}
		body := cache.Keep(req, resp, start).Body
		for {
			if _, err := body.Read(p); err == io.EOF {
				break
			}
		}
		body.Close()
	}
}
