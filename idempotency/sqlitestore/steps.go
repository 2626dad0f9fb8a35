package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/resagent/resagent/idempotency"
)

// Claim implements idempotency.Store.
func (s *Store) Claim(ctx context.Context, id idempotency.ID, print idempotency.Fingerprint, lease, ttl time.Duration) (c idempotency.Claim, err error) {
	now, err := readClock()
	if err != nil {
		return c, s.failed("Claim", err)
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		c, err = claim(ctx, tx, now, id, print, lease, ttl)
		return err
	})
	if err != nil {
		return idempotency.Claim{}, s.failed("Claim", err)
	}
	return c, nil
}

func claim(ctx context.Context, tx *sql.Tx, now clock, id idempotency.ID, print idempotency.Fingerprint, lease, ttl time.Duration) (c idempotency.Claim, err error) {
	var held, answer []byte
	var boot string
	var until, steady, wall int64
	err = tx.QueryRowContext(ctx, "SELECT print, boot, lease, over_steady, over_wall, answer FROM idempotency_keys WHERE id = ?", id[:]).
		Scan(&held, &boot, &until, &steady, &wall, &answer)
	known := err == nil && !now.over(boot, steady, wall)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return c, err
	case !known:
	case string(held) != string(print[:]):
		return idempotency.Claim{State: idempotency.Mismatch}, nil
	case answer != nil:
		a := new(idempotency.Answer)
		return idempotency.Claim{State: idempotency.Done, Answer: a}, a.UnmarshalBinary(answer)
	case now.leased(boot, until):
		return idempotency.Claim{State: idempotency.Running, Wait: time.Duration(until - now.steady)}, nil
	}
	var token int64
	if err := tx.QueryRowContext(ctx, "UPDATE idempotency_meta SET token = token + 1 RETURNING token").Scan(&token); err != nil {
		return c, err
	}
	if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", id[:], print[:], token,
		now.boot, now.steady+int64(lease), now.steady+int64(ttl), now.wall+int64(ttl)); err != nil {
		return c, err
	}
	// Each claim adds one key at most, and removes a few that are over: nothing
	// ever has to stop for all of them.
	_, err = tx.ExecContext(ctx, `DELETE FROM idempotency_keys WHERE id IN (SELECT id FROM idempotency_keys
		WHERE over_wall <= ? AND (boot <> ? OR over_steady <= ?) ORDER BY over_wall LIMIT 2)`, now.wall, now.boot, now.steady)
	return idempotency.Claim{State: idempotency.Claimed, Token: uint64(token), Again: known}, err
}

// Renew implements idempotency.Store. While the run has a transaction open,
// nobody can take its key, and there is nothing to renew; a lease of 0 rolls it
// back.
func (s *Store) Renew(ctx context.Context, id idempotency.ID, token uint64, lease time.Duration) error {
	key := run{id, token}
	switch {
	case lease <= 0:
		if err := s.rollback(key); err != nil {
			return s.failed("Renew", err)
		}
	case s.tx(key) != nil:
		return nil
	}
	now, err := readClock()
	if err != nil {
		return s.failed("Renew", err)
	}
	return s.failed("Renew", s.write(ctx, func(tx *sql.Tx) error {
		return one(tx.ExecContext(ctx, "UPDATE idempotency_keys SET lease = ?, boot = ? WHERE id = ? AND token = ? AND answer IS NULL",
			now.steady+int64(lease), now.boot, id[:], int64(token)))
	}))
}

// Complete implements idempotency.Store. With a transaction of the handler's
// it commits that, or fails with idempotency.ErrUndone.
func (s *Store) Complete(ctx context.Context, id idempotency.ID, token uint64, answer *idempotency.Answer, ttl time.Duration) error {
	effect := s.take(run{id, token})
	if effect != nil && answer.Status >= 500 {
		if err := effect.Rollback(); err != nil {
			return s.failed("Complete", fmt.Errorf("%w: %w", idempotency.ErrUndone, err))
		}
		effect = nil
	}
	data, err := answer.MarshalBinary()
	now, broken := readClock()
	store := func(tx *sql.Tx) error {
		if err := errors.Join(err, broken); err != nil {
			return err
		}
		return one(tx.ExecContext(ctx, "UPDATE idempotency_keys SET answer = ?, boot = ?, over_steady = ?, over_wall = ? WHERE id = ? AND token = ? AND answer IS NULL",
			data, now.boot, now.steady+int64(ttl), now.wall+int64(ttl), id[:], int64(token)))
	}
	if effect == nil {
		return s.failed("Complete", s.write(ctx, store))
	}
	if err := end(effect, store); err != nil {
		return s.failed("Complete", fmt.Errorf("%w: %w", idempotency.ErrUndone, err))
	}
	return nil
}

// Release implements idempotency.Store. A transaction of the handler's is
// rolled back.
func (s *Store) Release(ctx context.Context, id idempotency.ID, token uint64) error {
	if err := s.rollback(run{id, token}); err != nil {
		return s.failed("Release", err)
	}
	return s.failed("Release", s.write(ctx, func(tx *sql.Tx) error {
		return one(tx.ExecContext(ctx, "DELETE FROM idempotency_keys WHERE id = ? AND token = ? AND answer IS NULL", id[:], int64(token)))
	}))
}

// rollback undoes what a run has done in a transaction of its own.
func (s *Store) rollback(key run) error {
	if effect := s.take(key); effect != nil {
		return effect.Rollback()
	}
	return nil
}

// write runs a step in a transaction that has the file's write lock from its
// beginning.
func (s *Store) write(ctx context.Context, step func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	return end(tx, step)
}

// end does a transaction's last step, and commits it or rolls it back.
func end(tx *sql.Tx, step func(*sql.Tx) error) error {
	if err := step(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// one fails with ErrLost unless one row was changed: the run's own.
func one(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		return idempotency.ErrLost
	}
	return err
}
