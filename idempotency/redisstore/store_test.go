package redisstore

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/idempotency/storetest"
)

func TestIsAStore(t *testing.T) {
	s := start(t)
	storetest.Run(t, func(*testing.T) idempotency.Store { return &Store{Client: s.client} })
}

// Redis is killed after each acknowledged step: it comes back knowing it.
func TestAKilledRedisKnowsWhatItAcknowledged(t *testing.T) {
	ctx := context.Background()
	s := start(t)
	again := func() *Store {
		s.kill(t)
		s.run(t)
		return &Store{Client: s.client}
	}
	store, id := &Store{Client: s.client}, idempotency.ID{1}
	claim, err := store.Claim(ctx, id, idempotency.Fingerprint{}, time.Hour, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	store = again()
	if c, err := store.Claim(ctx, id, idempotency.Fingerprint{}, time.Hour, time.Hour); err != nil || c.State != idempotency.Running {
		t.Fatalf("a claimed key is %v, %v", c.State, err)
	}
	if err := store.Complete(ctx, id, claim.Token, &idempotency.Answer{Status: 201}, time.Hour); err != nil {
		t.Fatal(err)
	}
	store = again()
	if c, err := store.Claim(ctx, id, idempotency.Fingerprint{}, time.Hour, time.Hour); err != nil || c.State != idempotency.Done || c.Answer.Status != 201 {
		t.Fatalf("a completed key is %v, %v", c.State, err)
	}
	if c, err := store.Claim(ctx, idempotency.ID{2}, idempotency.Fingerprint{}, time.Hour, time.Hour); err != nil || c.Token <= claim.Token {
		t.Errorf("another key's token is %d, want above %d: %v", c.Token, claim.Token, err)
	}
}

// The client sends a step again whose reply was lost: the same as once.
func TestARepeatedStepIsOne(t *testing.T) {
	ctx := context.Background()
	s := start(t)
	store := &Store{Client: s.client, Prefix: "shop:"}
	id := idempotency.ID{1}
	keys := []string{store.key(id), store.prefix() + "token"}
	var token uint64
	for range 2 {
		reply, err := claim.Run(ctx, s.client, keys, "print", 1, 100_000, "call").StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		c, err := parse(reply)
		if err != nil || c.State != idempotency.Claimed || c.Again || token != 0 && c.Token != token {
			t.Fatalf("%+v, %v; want the same claim, which is no re-run", c, err)
		}
		token = c.Token
	}
	for range 2 {
		if err := store.Complete(ctx, id, token, &idempotency.Answer{Status: 201}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Complete(ctx, id, token, &idempotency.Answer{Status: 202}, time.Hour); !errors.Is(err, idempotency.ErrLost) {
		t.Errorf("another answer gave %v", err)
	}
	if left := s.client.PTTL(ctx, keys[0]).Val(); left <= 59*time.Minute {
		t.Errorf("Redis ends the key after %v, want the TTL of an hour", left)
	}
}

// A Redis that does not answer, or holds what is not ours, is an error that
// says so; nothing runs then.
func TestFailures(t *testing.T) {
	ctx := context.Background()
	s := start(t)
	store, id := &Store{Client: s.client}, idempotency.ID{1}
	if err := s.client.Set(ctx, store.key(id), "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Claim(ctx, id, idempotency.Fingerprint{}, time.Hour, time.Hour); err == nil || !strings.HasPrefix(err.Error(), "redisstore: Claim: ") {
		t.Errorf("a key of another type gave %v", err)
	}
	if s.client.Get(ctx, store.key(id)).Val() != "x" {
		t.Error("what was not ours was changed")
	}
	if err := s.client.HSet(ctx, store.key(idempotency.ID{2}), "print", string(make([]byte, 32)), "answer", "rot").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Claim(ctx, idempotency.ID{2}, idempotency.Fingerprint{}, time.Hour, time.Hour); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged answer gave %v", err)
	}
	if _, err := new(Store).Claim(ctx, id, idempotency.Fingerprint{}, time.Hour, time.Hour); !errors.Is(err, errNoClient) {
		t.Errorf("no client gave %v", err)
	}
	client := s.client
	s.kill(t)
	if err := (&Store{Client: client}).Complete(ctx, id, 1, &idempotency.Answer{Status: http.StatusOK}, time.Hour); err == nil || errors.Is(err, idempotency.ErrLost) {
		t.Errorf("a dead Redis gave %v", err)
	}
}

// Whatever Redis replies: a claim has what belongs to it, or there is an error.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"mismatch", "done|x", "running|5", "claimed|7|1", "claimed|0|0", "running|99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		c, err := parse(strings.Split(reply, "|"))
		if err != nil {
			return
		}
		if (c.State == idempotency.Claimed) != (c.Token != 0) || (c.State == idempotency.Done) != (c.Answer != nil) || (c.State == idempotency.Running) != (c.Wait > 0) || c.State == 0 {
			t.Fatalf("%q gave %+v", reply, c)
		}
	})
}
