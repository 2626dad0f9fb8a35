//go:build linux

package sqlitestore

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// chargesEnv sets how many charges a run makes, as in CHARGES=10000.
const chargesEnv = "CHARGES"

// ledger is what eight clients know after a run: the number that each customer
// was told, or unknown.
type ledger struct {
	mu      sync.Mutex
	told    map[string]string
	charges int
}

// charged charges each customer once, through a line that is cut again and again,
// at a shop of two processes that are killed again and again.
func charged(t *testing.T, path, books string) *ledger {
	l := &ledger{told: make(map[string]string), charges: 200}
	if s := os.Getenv(chargesEnv); s != "" {
		var err error
		if l.charges, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s=%q is no number", chargesEnv, s)
		}
	}
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
	line := newLine(t, listener.Addr().String())

	ctx, stop := context.WithTimeout(context.Background(), 3*time.Minute+time.Duration(l.charges)*30*time.Millisecond)
	defer stop()
	var shops sync.WaitGroup
	var deaths atomic.Int32
	for range 2 {
		shops.Go(func() {
			for ctx.Err() == nil {
				// Whatever it does then: it has not more than two seconds.
				life, end := context.WithTimeout(ctx, 500*time.Millisecond+rand.N(1500*time.Millisecond))
				cmd := exec.CommandContext(life, os.Args[0])
				cmd.Env = append(os.Environ(), shopEnv+"="+path, booksEnv+"="+books)
				cmd.ExtraFiles = []*os.File{file}
				out, _ := cmd.CombinedOutput()
				end()
				if len(out) > 0 {
					t.Errorf("a shop ended with: %s", out)
					return
				}
				deaths.Add(1)
			}
		})
	}

	c, done := customer(t)
	defer done()
	began := time.Now()
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for n := i; n < l.charges; n += 8 {
				customer := strconv.Itoa(n)
				number, err := charge(ctx, c, "http://"+line.Addr().String()+"/?customer="+customer)
				if err != nil {
					t.Errorf("charge %s: %v", customer, err)
					return
				}
				l.mu.Lock()
				l.told[customer] = number
				l.mu.Unlock()
			}
		})
	}
	clients.Wait()
	took := time.Since(began)
	stop()
	shops.Wait()
	t.Logf("%d charges through %d deaths and %d cut connections (%d with a request, %d with an answer, %d within one) in %v", len(l.told), deaths.Load()-2,
		line.asking.Load()+line.answering.Load()+line.within.Load(), line.asking.Load(), line.answering.Load(), line.within.Load(), took.Round(time.Millisecond))
	if len(l.told) != l.charges {
		t.Errorf("%d of %d charges were answered", len(l.told), l.charges)
	}
	return l
}

// customer is a client with our transport and retries.
func customer(t *testing.T) (c *http.Client, done func()) {
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
	return &http.Client{Transport: &transport.Transport{Base: base, Policies: set, Agent: &client.Session{Socket: "testdata/no/agent.sock"}}}, base.CloseIdleConnections
}

// Eight clients charge through our transport, while the line is cut and two
// processes that serve one port from one file are killed again and again: each
// charge that was acknowledged is in the books once, under the number that was
// told, where the handler writes it in the transaction of its answer.
func TestEachChargeOnceThroughKills(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.db")
	l := charged(t, path, "")
	rows, err := open(t, path).DB().Query("SELECT id, customer FROM charges")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	books := make(map[string]string)
	for rows.Next() {
		var id, customer string
		if err := rows.Scan(&id, &customer); err != nil {
			t.Fatal(err)
		}
		if books[customer] != "" {
			t.Errorf("customer %s was charged twice, as %s and %s", customer, books[customer], id)
		}
		if books[customer] = id; l.told[customer] != id {
			t.Errorf("customer %s was told charge %q, the books have %s", customer, l.told[customer], id)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(books) != l.charges {
		t.Errorf("%d charges are in the books, want %d", len(books), l.charges)
	}
}

// The same with books that no transaction reaches, and a handler that does not
// charge in a re-run: nobody is charged twice, and who was told a charge has
// it once. What remains are those that were told "unknown": some of them were
// charged, some not.
func TestNoChargeTwiceWithoutATransaction(t *testing.T) {
	dir := t.TempDir()
	books := filepath.Join(dir, "books")
	l := charged(t, filepath.Join(dir, "shop.db"), books)
	data, err := os.ReadFile(books)
	if err != nil {
		t.Fatal(err)
	}
	times := make(map[string]int)
	for customer := range strings.FieldsSeq(string(data)) {
		times[customer]++
	}
	doubts, without := 0, 0
	for customer, number := range l.told {
		n := times[customer]
		switch {
		case number == unknown && n <= 1:
			doubts++
			without += 1 - n
		case n != 1:
			t.Errorf("customer %s was told %q and charged %d times", customer, number, n)
		}
	}
	t.Logf("%d charges acknowledged; %d unknown, of which %d are in the books and %d are not", len(l.told)-doubts, doubts, doubts-without, without)
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
		} else if err == nil && string(body) == unknown {
			return unknown, nil
		} else if resp.StatusCode != http.StatusConflict && resp.StatusCode < 500 {
			return "", fmt.Errorf("%s: %s", resp.Status, body)
		}
	}
	return "", ctx.Err()
}
