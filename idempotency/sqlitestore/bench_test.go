package sqlitestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/resagent/resagent/idempotency"
)

// BenchmarkHandler is a request under the wrapper with a file: with a new key,
// each commit synced or not, and with one that has its answer.
func BenchmarkHandler(b *testing.B) {
	for _, c := range []struct {
		name    string
		options Options
		key     func() string
	}{
		{"new key, synced", Options{}, idempotency.NewKey},
		{"new key, unsynced", Options{Unsynced: true}, idempotency.NewKey},
		{"replay", Options{}, func() string { return "k-1" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			s, err := Open(b.Context(), filepath.Join(b.TempDir(), "keys.db"), c.options)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201) }), idempotency.Options{Store: s})
			for b.Loop() {
				r := httptest.NewRequest("POST", "/", nil)
				r.Header.Set("Idempotency-Key", c.key())
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

// BenchmarkLiveKeys is a new key and its answer, unsynced, while a million
// others are held (KEYS sets another number), what each of these takes in the
// file, and how long it takes to open it: it is checked whole.
func BenchmarkLiveKeys(b *testing.B) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("KEYS"), "1000000"))
	if err != nil {
		b.Fatal(err)
	}
	ctx, path := context.Background(), filepath.Join(b.TempDir(), "keys.db")
	answer := &idempotency.Answer{Status: 201, Header: http.Header{"Content-Type": {"application/json"}}, Body: make([]byte, 100)}
	fill(b, path, n, answer)
	began := time.Now()
	s, err := Open(ctx, path, Options{Unsynced: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	opened := time.Since(began)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var id idempotency.ID
		_, _ = rand.Read(id[:])
		c, err := s.Claim(ctx, id, idempotency.Fingerprint{}, time.Minute, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Complete(ctx, id, c.Token, answer, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(info.Size())/float64(n), "B/key")
	b.ReportMetric(opened.Seconds(), "s-opening")
}

// fill writes answered keys into a new file, in one transaction: a million
// steps would take minutes.
func fill(b *testing.B, path string, n int, answer *idempotency.Answer) {
	s, err := Open(b.Context(), path, Options{Unsynced: true})
	if err != nil {
		b.Fatal(err)
	}
	data, err := answer.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	now, err := readClock()
	if err != nil {
		b.Fatal(err)
	}
	_, err = s.DB().Exec(`WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?)
		INSERT INTO idempotency_keys SELECT randomblob(32), randomblob(32), n, ?, ?, ?, ? + n, ? FROM count`,
		n, now.boot, now.steady, now.steady+int64(24*time.Hour), now.wall+int64(24*time.Hour), data)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
