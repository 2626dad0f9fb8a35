package idempotency_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/idempotency/storetest"
)

func TestMemoryIsAStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) idempotency.Store { return new(idempotency.Memory) })
}

func id(n uint64) (id idempotency.ID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

// Full, it refuses new keys and keeps what it has; with the TTL room returns.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		m := &idempotency.Memory{MaxBytes: 100 << 10}
		n := uint64(0)
		for ; ; n++ {
			c, err := m.Claim(ctx, id(n), idempotency.Fingerprint{}, time.Minute, time.Hour)
			if errors.Is(err, idempotency.ErrFull) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if err := m.Complete(ctx, id(n), c.Token, &idempotency.Answer{Status: 200, Body: make([]byte, 1000)}, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if n < 60 || n > 100 {
			t.Errorf("100 KiB held %d answers of 1,000 bytes", n)
		}
		for i := range n {
			if c, err := m.Claim(ctx, id(i), idempotency.Fingerprint{}, time.Minute, time.Hour); err != nil || c.State != idempotency.Done {
				t.Fatalf("key %d of %d in a full store: %v, %v", i, n, c.State, err)
			}
		}
		time.Sleep(time.Hour)
		for i := range n {
			if _, err := m.Claim(ctx, id(n+i), idempotency.Fingerprint{}, time.Minute, time.Hour); err != nil {
				t.Fatalf("after the TTL of all: %v", err)
			}
		}
		if got := m.Len(); got > int(n) {
			t.Errorf("%d keys are held of which %d are over", got, got-int(n))
		}
	})
}

// Keys of different TTLs go each at its own end.
func TestMemoryPrunesByTheEndOfTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		m := new(idempotency.Memory)
		for i, ttl := range []time.Duration{3 * time.Hour, time.Hour, 2 * time.Hour} {
			if _, err := m.Claim(ctx, id(uint64(i)), idempotency.Fingerprint{}, time.Minute, ttl); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(90 * time.Minute)
		if _, err := m.Claim(ctx, id(9), idempotency.Fingerprint{}, time.Minute, time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := m.Len(); got != 3 { // 0, 2 and 9
			t.Errorf("%d keys are held, want 3: only the second is over", got)
		}
	})
}
