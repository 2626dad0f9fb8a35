package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/resagent/resagent/idempotency"
)

// Options of [Open]. The zero value is the safe choice.
type Options struct {
	// Unsynced leaves it to the operating system when commits reach the disk.
	// Nothing is lost when a process dies; when the power fails, the last
	// commits may be. false: each commit is synced.
	Unsynced bool
	// BusyTimeout is how long a step waits for writers of other processes; 0:
	// 5 s. A step's context also bounds it in its own process.
	BusyTimeout time.Duration
}

// Store is an idempotency.Store in an SQLite file. It is safe for concurrent
// use, by several processes of one host.
type Store struct {
	path string
	db   *sql.DB // one connection: writers of one process queue here, not at the file

	mu   sync.Mutex
	open map[run]*sql.Tx // of handlers that have called Tx
}

// run is a claim of a key.
type run struct {
	id    idempotency.ID
	token uint64
}

// schema is version 1. The token of meta is the newest one: tokens only grow,
// also where keys are forgotten.
const schema = `
CREATE TABLE IF NOT EXISTS idempotency_meta (version INTEGER NOT NULL, token INTEGER NOT NULL);
INSERT INTO idempotency_meta SELECT 1, 0 WHERE NOT EXISTS (SELECT 1 FROM idempotency_meta);
CREATE TABLE IF NOT EXISTS idempotency_keys (
	id BLOB PRIMARY KEY, print BLOB NOT NULL, token INTEGER NOT NULL, boot TEXT NOT NULL,
	lease INTEGER NOT NULL, over_steady INTEGER NOT NULL, over_wall INTEGER NOT NULL, answer BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idempotency_over ON idempotency_keys (over_wall);`

// Open opens the file, or makes it. Other tables in it are left alone, so it
// can be an application's own database. A file that is damaged, or is no
// database, is refused and not touched. The caller closes the Store.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if o.BusyTimeout <= 0 {
		o.BusyTimeout = 5 * time.Second
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	sync := "FULL"
	if o.Unsynced {
		sync = "NORMAL"
	}
	name := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: url.Values{
		"_txlock": {"immediate"},
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", o.BusyTimeout.Milliseconds()), "synchronous(" + sync + ")"},
	}.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	s := &Store{path: path, db: db, open: make(map[run]*sql.Tx)}
	if err := s.prepare(ctx, o.BusyTimeout); err != nil {
		db.Close()
		return nil, fmt.Errorf("sqlitestore: %s cannot be used, and is left as it is: %w; move it away (with its -wal and -shm) and restore a backup, or start with an empty one: keys it holds are then forgotten", path, err)
	}
	return s, nil
}

// prepare checks the whole file, and makes the tables.
func (s *Store) prepare(ctx context.Context, wait time.Duration) error {
	var verdict string
	if err := s.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return errors.New(verdict)
	}
	// Only now: it writes to a file that is not in this mode yet. It does not
	// wait for others that do the same, so it is tried again.
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		var mode string
		err := s.db.QueryRowContext(ctx, "PRAGMA journal_mode=WAL").Scan(&mode)
		if err == nil && mode != "wal" {
			return fmt.Errorf("its journal mode is %q and cannot be made WAL", mode)
		} else if err == nil {
			break
		} else if ctx.Err() != nil || time.Since(begun) > wait {
			return err
		}
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	var version int
	if err := tx.QueryRowContext(ctx, "SELECT version FROM idempotency_meta").Scan(&version); err != nil {
		return err
	}
	if version != 1 {
		return fmt.Errorf("its tables are of version %d, this program knows 1", version)
	}
	return tx.Commit()
}

// Close closes the file. No step may be under way, nor any transaction open.
func (s *Store) Close() error { return s.db.Close() }

// DB is the database of the store, with the one connection through which it
// writes: for making tables and for reading. It must not be closed, nor used
// by a handler between its Tx and its end: there it would wait for itself.
func (s *Store) DB() *sql.DB { return s.db }

// errNoRun says that a context is none of a handler's run.
var errNoRun = errors.New("sqlitestore: Tx: the context is none of a request with an idempotency key; set idempotency.Options.Required")

// Tx begins a transaction in the store's file that is committed with the
// handler's answer, and only with it: an answer that is not stored
// (idempotency.Run.Forget, a released status, a panic, a lost lease) rolls it
// back, and so does one of 500 and above. The handler must neither commit nor
// roll it back. Called again in the same run, it gives the same transaction.
//
// ctx is that of the handler's request. Tx waits for its turn: in its process
// for those who came before, at the file for at most Options.BusyTimeout.
func (s *Store) Tx(ctx context.Context) (*sql.Tx, error) {
	r := idempotency.FromContext(ctx)
	if r == nil {
		return nil, errNoRun
	}
	key := run{r.ID, r.Token}
	if tx := s.tx(key); tx != nil {
		return tx, nil
	}
	// The transaction must outlive the handler's context, which database/sql
	// would end it with.
	tx, err := s.db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, s.failed("Tx", err)
	}
	if err := owned(ctx, tx, key); err != nil {
		return nil, errors.Join(s.failed("Tx", err), tx.Rollback())
	}
	s.mu.Lock()
	s.open[key] = tx
	s.mu.Unlock()
	return tx, nil
}

// owned fails with ErrLost if the run does not hold its key.
func owned(ctx context.Context, tx *sql.Tx, key run) error {
	var n int
	err := tx.QueryRowContext(ctx, "SELECT count(*) FROM idempotency_keys WHERE id = ? AND token = ? AND answer IS NULL", key.id[:], int64(key.token)).Scan(&n)
	if err == nil && n == 0 {
		return idempotency.ErrLost
	}
	return err
}

// tx gives the transaction of a run; nil: it has none.
func (s *Store) tx(key run) *sql.Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[key]
}

// take gives the transaction of a run, and forgets it.
func (s *Store) take(key run) *sql.Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := s.open[key]
	delete(s.open, key)
	return tx
}

func (s *Store) failed(step string, err error) error {
	if err == nil || errors.Is(err, idempotency.ErrLost) {
		return err
	}
	return fmt.Errorf("sqlitestore: %s: %s: %w", step, s.path, err)
}
