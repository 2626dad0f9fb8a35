package sqlitestore_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/idempotency/sqlitestore"
)

// The charge and the answer that says so are committed together: each charge
// that was acknowledged is in the books exactly once.
func ExampleStore_Tx() {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := sqlitestore.Open(context.Background(), filepath.Join(dir, "shop.db"), sqlitestore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if _, err := store.DB().Exec("CREATE TABLE charges (id INTEGER PRIMARY KEY, amount TEXT)"); err != nil {
		log.Fatal(err)
	}

	charge := func(w http.ResponseWriter, r *http.Request) {
		tx, err := store.Tx(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable) // frees the key
			return
		}
		result, err := tx.Exec("INSERT INTO charges (amount) VALUES (?)", r.FormValue("amount"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable) // and undoes what was written
			return
		}
		id, _ := result.LastInsertId()
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "charge %d", id)
	}
	h := idempotency.Handler(http.HandlerFunc(charge), idempotency.Options{Store: store, Required: true})

	for range 2 {
		r := httptest.NewRequest("POST", "/charges?amount=5", nil)
		r.Header.Set("Idempotency-Key", `"order-4711"`)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body)
	}
	var n int
	if err := store.DB().QueryRow("SELECT count(*) FROM charges").Scan(&n); err != nil {
		log.Fatal(err)
	}
	fmt.Println("charges:", n)
	// Output:
	// 201 charge 1
	// 201 charge 1
	// charges: 1
}
