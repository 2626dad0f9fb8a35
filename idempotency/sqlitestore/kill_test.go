//go:build linux

package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// shopEnv names the file of a process that is to be the shop; chargesEnv sets
// how many charges are made, as in CHARGES=10000.
const shopEnv, chargesEnv = "SQLITESTORE_SHOP", "CHARGES"

func TestMain(m *testing.M) {
	if path := os.Getenv(shopEnv); path != "" {
		fmt.Fprintln(os.Stderr, shop(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// shop serves charges on descriptor 3, and dies by SIGKILL every now and then:
// with the key claimed, the charge written, and both committed.
func shop(path string) error {
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	store, err := Open(context.Background(), path, Options{})
	if err != nil {
		return err
	}
	if _, err := store.DB().Exec("CREATE TABLE IF NOT EXISTS charges (id INTEGER PRIMARY KEY, customer TEXT)"); err != nil {
		return err
	}
	die := func() {
		if rand.IntN(50) == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	}), idempotency.Options{Store: store, Required: true, Lease: 200 * time.Millisecond,
		Observe: func(e idempotency.Event) {
			if e.Kind == idempotency.Stored {
				die()
			}
		}})
	return http.Serve(listener, h)
}

// Eight clients charge through our transport, while two processes that serve
// one port from one file are killed again and again: each charge that was
// acknowledged is in the books once, under the number that was told.
func TestEachChargeOnceThroughKills(t *testing.T) {
	charges := 200
	if s := os.Getenv(chargesEnv); s != "" {
		var err error
		if charges, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s=%q is no number", chargesEnv, s)
		}
	}
	path := filepath.Join(t.TempDir(), "shop.db")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	ctx, stop := context.WithTimeout(context.Background(), 3*time.Minute+time.Duration(charges)*20*time.Millisecond)
	var shops sync.WaitGroup
	var mu sync.Mutex
	deaths := 0
	for range 2 {
		shops.Go(func() {
			for ctx.Err() == nil {
				cmd := exec.CommandContext(ctx, os.Args[0])
				cmd.Env = append(os.Environ(), shopEnv+"="+path)
				cmd.ExtraFiles = []*os.File{file}
				out, _ := cmd.CombinedOutput()
				if len(out) > 0 {
					t.Errorf("a shop ended with: %s", out)
					return
				}
				mu.Lock()
				deaths++
				mu.Unlock()
			}
		})
	}

	set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"shop": {
		Match:          []policies.Match{{Host: "127.0.0.1"}},
		Idempotency:    &policies.Idempotency{},
		Retry:          &policies.Retry{Backoff: policies.Backoff{Base: 10 * time.Millisecond, ThrottledBase: 10 * time.Millisecond, Max: 50 * time.Millisecond}},
		CircuitBreaker: &policies.CircuitBreaker{MinRequests: 1 << 20, ConsecutiveFailures: 1 << 20},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	c := &http.Client{Transport: &transport.Transport{Base: base, Policies: set, Agent: &client.Session{Socket: "testdata/no/agent.sock"}}}
	told := make(map[string]string) // the number of each customer's charge
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for n := i; n < charges; n += 8 {
				customer := strconv.Itoa(n)
				number, err := charge(ctx, c, "http://"+listener.Addr().String()+"/?customer="+customer)
				if err != nil {
					t.Errorf("charge %s: %v", customer, err)
					return
				}
				mu.Lock()
				told[customer] = number
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	stop()
	shops.Wait()
	t.Logf("%d charges through %d deaths", len(told), deaths-2)

	db := open(t, path).DB()
	books := make(map[string]string)
	rows, err := db.Query("SELECT id, customer FROM charges")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	compare(t, rows, told, books)
	if len(told) != charges || len(books) != charges {
		t.Errorf("%d acknowledged, %d in the books, want %d of each", len(told), len(books), charges)
	}
}

func compare(t *testing.T, rows *sql.Rows, told, books map[string]string) {
	for rows.Next() {
		var id, customer string
		if err := rows.Scan(&id, &customer); err != nil {
			t.Fatal(err)
		}
		if books[customer] != "" {
			t.Errorf("customer %s was charged twice, as %s and %s", customer, books[customer], id)
		}
		if books[customer] = id; told[customer] != id {
			t.Errorf("customer %s was told charge %q, the books have %s", customer, told[customer], id)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// charge sends a request with one key until it is acknowledged.
func charge(ctx context.Context, c *http.Client, url string) (number string, err error) {
	key := idempotency.NewKey()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, "POST", url, nil)
		if err != nil {
			return "", err
		}
		req.Header.Set(idempotency.Header, key)
		resp, err := c.Do(req)
		if err != nil {
			continue // the transport has waited between its attempts
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode == http.StatusCreated {
			return string(body), nil
		} else if resp.StatusCode != http.StatusConflict && resp.StatusCode < 500 {
			return "", fmt.Errorf("%s: %s", resp.Status, body)
		}
	}
	return "", ctx.Err()
}
