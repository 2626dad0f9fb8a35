//go:build linux

package sqlitestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/resagent/resagent/idempotency"
)

// shopEnv names the file of a process that is to be the shop, booksEnv the
// file of its books where they are no table of that file.
const shopEnv, booksEnv = "SQLITESTORE_SHOP", "SQLITESTORE_BOOKS"

// unknown is the answer of a shop that cannot tell what an earlier run did.
const unknown = "unknown"

func TestMain(m *testing.M) {
	if path := os.Getenv(shopEnv); path != "" {
		fmt.Fprintln(os.Stderr, shop(path, os.Getenv(booksEnv)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// shop serves charges on descriptor 3, and dies by SIGKILL every now and then:
// with the key claimed, the charge written, and the answer stored.
func shop(path, books string) error {
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	store, err := Open(context.Background(), path, Options{})
	if err != nil {
		return err
	}
	charge := apart(books)
	if books == "" {
		if _, err := store.DB().Exec("CREATE TABLE IF NOT EXISTS charges (id INTEGER PRIMARY KEY, customer TEXT)"); err != nil {
			return err
		}
		charge = within(store)
	}
	return http.Serve(listener, idempotency.Handler(charge, idempotency.Options{Store: store, Required: true, Lease: 200 * time.Millisecond,
		Observe: func(e idempotency.Event) {
			if e.Kind == idempotency.Stored {
				die()
			}
		}}))
}

func die() {
	if rand.IntN(50) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

// within charges in the transaction of the answer: whatever a dead run wrote
// is undone, so a re-run simply charges.
func within(store *Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		die()
		tx, err := store.Tx(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		result, err := tx.Exec("INSERT INTO charges (customer) VALUES (?)", r.FormValue("customer"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		die()
		id, _ := result.LastInsertId()
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, id)
	}
}

// apart charges where no transaction reaches, and cannot look up what it has
// charged. All it can do in a re-run is to say so, once and for all.
func apart(books string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if idempotency.FromContext(r.Context()).Again {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, unknown)
			return
		}
		die()
		f, err := os.OpenFile(books, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer f.Close()
		// One system call: a SIGKILL comes before or after it.
		if _, err := f.WriteString(r.FormValue("customer") + "\n"); err != nil {
			panic(err)
		}
		die()
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, "charged")
	}
}
