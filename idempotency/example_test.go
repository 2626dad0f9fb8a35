package idempotency_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

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

// A request that is repeated is carried out once.
func ExampleHandler() {
	charges := 0
	charge := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("amount") == "" {
			idempotency.FromContext(r.Context()).Forget() // nothing was done
			http.Error(w, "amount is missing", http.StatusBadRequest)
			return
		}
		charges++
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "charge %d", charges)
	})
	h := idempotency.Handler(charge, idempotency.Options{Required: true})

	for range 2 {
		r := httptest.NewRequest("POST", "/charges?amount=5", nil)
		r.Header.Set("Idempotency-Key", `"order-4711"`)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body, idempotency.Replayed(w.Result()))
	}
	// Output:
	// 201 charge 1 false
	// 201 charge 1 true
}
