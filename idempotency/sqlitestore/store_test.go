package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/idempotency/storetest"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, Options{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) idempotency.Store { return open(t, filepath.Join(t.TempDir(), "keys.db")) })
}

// spread gives each step to another of several stores on one file, as several
// processes would.
type spread struct {
	stores []*Store
	next   chan int
}

func (s *spread) turn() *Store {
	i := <-s.next
	s.next <- (i + 1) % len(s.stores)
	return s.stores[i]
}

func (s *spread) Claim(ctx context.Context, id idempotency.ID, print idempotency.Fingerprint, lease, ttl time.Duration) (idempotency.Claim, error) {
	return s.turn().Claim(ctx, id, print, lease, ttl)
}
func (s *spread) Renew(ctx context.Context, id idempotency.ID, token uint64, lease time.Duration) error {
	return s.turn().Renew(ctx, id, token, lease)
}
func (s *spread) Complete(ctx context.Context, id idempotency.ID, token uint64, a *idempotency.Answer, ttl time.Duration) error {
	return s.turn().Complete(ctx, id, token, a, ttl)
}
func (s *spread) Release(ctx context.Context, id idempotency.ID, token uint64) error {
	return s.turn().Release(ctx, id, token)
}

func TestSeveralAreOneStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) idempotency.Store {
		path := filepath.Join(t.TempDir(), "keys.db")
		s := &spread{stores: []*Store{open(t, path), open(t, path), open(t, path)}, next: make(chan int, 1)}
		s.next <- 0
		return s
	})
}

// Processes that start together make one file.
func TestManyOpenANewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(context.Background(), path, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A path may have any characters, also those of a URI.
func TestPathsAreTakenAsTheyAre(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%41.db")
	open(t, path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// ask sends one keyed request to a handler.
func ask(h http.Handler) int {
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Idempotency-Key", "k")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// What a handler writes is there if, and only if, its answer is stored and
// not of 500 and above.
func TestEffectAndAnswerAreOne(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		forget  bool
		panics  bool
		effects int
		runs    int // of two requests
	}{
		{"stored", 201, false, false, 1, 1},
		{"a refusal of the operation's is stored", 402, false, false, 1, 1},
		{"500 is stored, its effect undone", 500, false, false, 0, 1},
		{"503 frees the key", 503, false, false, 0, 2},
		{"forgotten", 400, true, false, 0, 2},
		{"panicked", 201, false, true, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "keys.db"))
			if _, err := s.DB().Exec("CREATE TABLE effects (n INTEGER)"); err != nil {
				t.Fatal(err)
			}
			runs := 0
			h := idempotency.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				runs++
				tx, err := s.Tx(r.Context())
				if err != nil {
					t.Fatal(err)
				}
				if again, err := s.Tx(r.Context()); again != tx || err != nil {
					t.Errorf("a second Tx gave another transaction, or %v", err)
				}
				if _, err := tx.Exec("INSERT INTO effects VALUES (1)"); err != nil {
					t.Fatal(err)
				}
				if c.forget {
					idempotency.FromContext(r.Context()).Forget()
				}
				if c.panics {
					panic("x")
				}
				w.WriteHeader(c.status)
			}), idempotency.Options{Store: s})
			for range 2 {
				func() {
					defer func() { _ = recover() }()
					if got := ask(h); got != c.status {
						t.Errorf("status %d, want %d", got, c.status)
					}
				}()
			}
			var effects int
			if err := s.DB().QueryRow("SELECT count(*) FROM effects").Scan(&effects); err != nil {
				t.Fatal(err)
			}
			if effects != c.effects || runs != c.runs {
				t.Errorf("%d effects of %d runs, want %d of %d", effects, runs, c.effects, c.runs)
			}
		})
	}
}

// A run that has lost its key gets no transaction, and its commit is refused.
func TestALostRunHasNoEffect(t *testing.T) {
	ctx := context.Background()
	s := open(t, filepath.Join(t.TempDir(), "keys.db"))
	id := idempotency.ID{1}
	first, err := s.Claim(ctx, id, idempotency.Fingerprint{}, time.Nanosecond, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := s.Claim(ctx, id, idempotency.Fingerprint{}, time.Hour, time.Hour); err != nil || !second.Again {
		t.Fatalf("the second claim: %+v, %v", second, err)
	}
	if _, err := s.Tx(idempotency.WithRun(ctx, &idempotency.Run{ID: id, Token: first.Token})); !errors.Is(err, idempotency.ErrLost) {
		t.Errorf("Tx of a lost run gave %v", err)
	}
	if _, err := s.Tx(ctx); !errors.Is(err, errNoRun) {
		t.Errorf("Tx outside a run gave %v", err)
	}
}

// A damaged file, or one that is no database, is refused with what to do, and
// not a byte of it is changed.
func TestADamagedFileIsRefused(t *testing.T) {
	good := filepath.Join(t.TempDir(), "keys.db")
	s, err := Open(context.Background(), good, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, err := s.Claim(context.Background(), idempotency.ID{byte(i)}, idempotency.Fingerprint{}, time.Hour, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	holed := bytes.Clone(whole)
	for i := 4096; i < len(holed); i++ {
		holed[i] = 0x5a
	}
	for name, data := range map[string][]byte{
		"not a database":    []byte(strings.Repeat("no database\n", 1000)),
		"pages overwritten": holed,
		"cut off":           whole[:len(whole)/2+100],
	} {
		path := filepath.Join(t.TempDir(), "keys.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(context.Background(), path, Options{})
		if err == nil {
			s.Close()
			t.Errorf("%s: it is opened", name)
			continue
		}
		if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "restore a backup") {
			t.Errorf("%s: the error says neither where nor what to do: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, data) {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
}

// A wall clock that jumps ends neither leases nor TTLs; a reboot ends leases.
func TestClocks(t *testing.T) {
	const hour = int64(time.Hour)
	now := clock{boot: "a", steady: 10 * hour, wall: 1000 * hour}
	for _, c := range []struct {
		name         string
		now          clock
		leased, over bool
	}{
		{"at once", now, true, false},
		{"half an hour later", clock{"a", now.steady + hour/2, now.wall + hour/2}, true, false},
		{"two hours later", clock{"a", now.steady + 2*hour, now.wall + 2*hour}, false, true},
		{"the wall clock a day forward", clock{"a", now.steady, now.wall + 24*hour}, true, false},
		{"the wall clock a day back, two hours later", clock{"a", now.steady + 2*hour, now.wall - 22*hour}, false, false},
		{"a reboot", clock{"b", 0, now.wall + hour/2}, false, false},
		{"a reboot, two hours later", clock{"b", 0, now.wall + 2*hour}, false, true},
	} {
		if leased, over := c.now.leased("a", now.steady+hour), c.now.over("a", now.steady+hour, now.wall+hour); leased != c.leased || over != c.over {
			t.Errorf("%s: leased %v, over %v; want %v, %v", c.name, leased, over, c.leased, c.over)
		}
	}
}

// Keys that are over go, a few with each claim.
func TestPrunes(t *testing.T) {
	ctx := context.Background()
	s := open(t, filepath.Join(t.TempDir(), "keys.db"))
	for i := range 100 {
		ttl := time.Nanosecond
		if i < 10 {
			ttl = time.Hour
		}
		if _, err := s.Claim(ctx, idempotency.ID{byte(i)}, idempotency.Fingerprint{}, time.Nanosecond, ttl); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	if err := s.DB().QueryRow("SELECT count(*) FROM idempotency_keys").Scan(&n); err != nil || n < 10 || n > 12 {
		t.Errorf("%d keys are held, want the 10 that are not over and the last: %v", n, err)
	}
}
