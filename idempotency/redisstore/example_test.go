package redisstore_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/idempotency/redisstore"
)

// A server of several hosts. While Redis cannot be asked, nothing is carried
// out: the client is told to come back.
func Example() {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: os.DevNull, MaxRetries: -1})
	defer client.Close()
	charge := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusCreated) })
	h := idempotency.Handler(charge, idempotency.Options{Store: &redisstore.Store{Client: client}, Required: true})

	r := httptest.NewRequest("POST", "/charges", nil)
	r.Header.Set("Idempotency-Key", `"order-4711"`)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("Retry-After"))
	// Output:
	// 503 1
}
