package idempotency_test

import (
	"fmt"
	"net/http"

	"github.com/resagent/resagent/idempotency"
)

// A request gets one key, which stays the same however often it is sent.
func Example() {
	h := http.Header{}
	key, minted := idempotency.Set(h, "", false)
	fmt.Println(len(key), minted)

	again, minted := idempotency.Set(h, "", false)
	fmt.Println(again == key, minted)
	fmt.Println(h.Get(idempotency.Header) == `"`+key+`"`)
	// Output:
	// 36 true
	// true false
	// true
}

// A key of the caller's own is kept.
func ExampleSet() {
	h := http.Header{"Idempotency-Key": {`"order-4711"`}}
	fmt.Println(idempotency.Set(h, "", false))
	// Output:
	// order-4711 false
}

// An answer that the server stored earlier is final.
func ExampleReplayed() {
	resp := &http.Response{
		StatusCode: http.StatusInternalServerError,
		Header:     http.Header{"Idempotency-Replayed": {"true"}},
	}
	fmt.Println(idempotency.Replayed(resp))
	// Output:
	// true
}
