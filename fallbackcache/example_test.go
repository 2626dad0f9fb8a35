package fallbackcache_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/resagent/resagent/fallbackcache"
)

// An upstream that answers once, and then is down: two minutes after its
// answer ceased to be fresh, the caller gets it all the same.
func Example() {
	cache := &fallbackcache.Cache{MaxBytes: 16 << 20}
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

	req, err := http.NewRequest("GET", "http://prices.example/today", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp := cache.Keep(req, &http.Response{
		StatusCode:    http.StatusOK,
		Header:        http.Header{"Cache-Control": {"max-age=60"}},
		Body:          io.NopCloser(strings.NewReader("42")),
		ContentLength: 2,
	}, noon)
	_, _ = io.Copy(io.Discard, resp.Body) // read to its end, it is stored
	resp.Body.Close()

	answer, ok := cache.Find(req, time.Hour, noon.Add(3*time.Minute))
	if !ok {
		fmt.Println("there is no answer")
		return
	}
	resp = answer.Response(req, fallbackcache.Outcome{Attempted: true, Status: http.StatusServiceUnavailable})
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(string(body))
	fmt.Println(resp.Header.Get("Cache-Status"))
	// Output:
	// 42
	// resagent; fwd=stale; fwd-status=503; ttl=-120
}

// Tenants that share credentials can still be kept apart.
func ExampleCache_partition() {
	cache := &fallbackcache.Cache{
		Partition: func(r *http.Request) string { return r.Header.Get("X-Shop") },
	}
	req, _ := http.NewRequest("GET", "http://prices.example/today", nil)
	req.Header.Set("X-Shop", "berlin")
	cache.Keep(req, &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, time.Now())

	other := req.Clone(req.Context())
	other.Header.Set("X-Shop", "paris")
	_, berlin := cache.Find(req, time.Hour, time.Now())
	_, paris := cache.Find(other, time.Hour, time.Now())
	fmt.Println(berlin, paris)
	// Output:
	// true false
}
