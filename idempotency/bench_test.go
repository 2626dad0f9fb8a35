package idempotency_test

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/resagent/resagent/idempotency"
)

// nobody is a client that takes an answer and forgets it.
type nobody struct{ header http.Header }

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) Write(p []byte) (int, error) { return len(p), nil }
func (n *nobody) WriteHeader(int)             {}

// content is an answer of 100 bytes.
var content = make([]byte, 100)

func created(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(content)
}

// BenchmarkHandler is what a request costs in the handler alone, and under the
// wrapper: without a key, with a new one, with one that has its answer.
func BenchmarkHandler(b *testing.B) {
	bare := http.HandlerFunc(created)
	o := idempotency.Options{Store: &idempotency.Memory{MaxBytes: 1 << 40}}
	for _, c := range []struct {
		name    string
		handler http.Handler
		key     func() string
	}{
		{"bare", bare, nil},
		{"no key", idempotency.Handler(bare, o), nil},
		{"new key", idempotency.Handler(bare, o), idempotency.NewKey},
		{"replay", idempotency.Handler(bare, o), func() string { return "k-1" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := request("amount=5")
			r.Body = http.NoBody
			r.Header.Del(idempotency.Header)
			w := &nobody{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				if c.key != nil {
					r.Header[idempotency.Header] = []string{c.key()}
				}
				clear(w.header)
				c.handler.ServeHTTP(w, r)
			}
		})
	}
}

// live is how many keys are held in BenchmarkLiveKeys; KEYS sets another
// number.
func live(b *testing.B) uint64 {
	n, err := strconv.ParseUint(cmp.Or(os.Getenv("KEYS"), "1000000"), 10, 32)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkLiveKeys is a claim and its answer while a million other keys are
// held, what each of these takes in memory, and the longest step while they
// came. Run it with -benchtime 100000x: what it adds is held too.
func BenchmarkLiveKeys(b *testing.B) {
	ctx, n := context.Background(), live(b)
	m := &idempotency.Memory{MaxBytes: 1 << 40}
	answer := &idempotency.Answer{Status: 201, Header: http.Header{"Content-Type": {"application/json"}}, Body: content}
	step := func(n uint64) {
		c, err := m.Claim(ctx, id(n), idempotency.Fingerprint{}, time.Minute, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Complete(ctx, id(n), c.Token, answer, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	before, longest := heap(), time.Duration(0)
	for i := range n {
		began := time.Now()
		step(i)
		longest = max(longest, time.Since(began))
	}
	each := float64(heap()-before) / float64(n)
	next := n
	for b.Loop() {
		step(next)
		next++
	}
	b.ReportMetric(each, "B/key")
	b.ReportMetric(float64(longest.Microseconds()), "us-longest")
	runtime.KeepAlive(m)
}

// heap gives the bytes in use after a collection.
func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
