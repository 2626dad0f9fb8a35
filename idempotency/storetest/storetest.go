// Package storetest holds an idempotency.Store to what Handler relies on:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) idempotency.Store { return open(t) })
//	}
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/resagent/resagent/idempotency"
)

const (
	// long is a lease or TTL that does not end in a test, short one that does.
	long  = time.Hour
	short = 30 * time.Millisecond
	// soon is for what must come, on the slowest machine.
	soon = 30 * time.Second
)

// Run tries a store as subtests of t. open is called by each of them, and
// closes what it opened with t.Cleanup; two stores that it gives may share
// their keys. Leases and TTLs are waited for in real time, less than a second
// in all.
func Run(t *testing.T, open func(t *testing.T) idempotency.Store) {
	for _, c := range []struct {
		name string
		test func(*fixture)
	}{
		{"a claimed key is running", running},
		{"a completed key is done, with all of its answer", done},
		{"an answer without body and header", bare},
		{"the store keeps nothing of the answer it is given", keepsNothing},
		{"a released key is free, and not a re-run", released},
		{"another fingerprint is a mismatch in every state", mismatch},
		{"a lease that is over can be claimed, as a re-run", overdue},
		{"a re-run is told again and again", overdueTwice},
		{"a late completer, renewer, releaser has lost", late},
		{"a lease that is over and was not taken can be completed", lateAlone},
		{"renewing keeps a key", renewed},
		{"a run whose lease was ended can be claimed at once, as a re-run", leaseEnded},
		{"an answer ends with its TTL", expired},
		{"a claim that was never ended is forgotten with its TTL", abandoned},
		{"nobody's token has lost", strangers},
		{"of many that claim at once one gets the key", together},
		{"of many that claim a lost lease at once one gets the key", togetherOverdue},
		{"keys do not touch each other", apart},
		{"100 requests with one key at once are one execution", requests},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fixture{T: t, store: open(t), print: idempotency.Fingerprint{1}}
			f.id = newID()
			c.test(f)
		})
	}
}

// fixture is a store and a key of its own.
type fixture struct {
	*testing.T
	store idempotency.Store
	id    idempotency.ID
	print idempotency.Fingerprint
}

func newID() (id idempotency.ID) {
	_, _ = rand.Read(id[:])
	return id
}

func (f *fixture) claim(lease, ttl time.Duration) idempotency.Claim {
	f.Helper()
	c, err := f.store.Claim(context.Background(), f.id, f.print, lease, ttl)
	if err != nil {
		f.Fatalf("Claim: %v", err)
	}
	if (c.State == idempotency.Claimed) != (c.Token != 0) {
		f.Fatalf("state %v with token %d", c.State, c.Token)
	}
	if (c.State == idempotency.Done) != (c.Answer != nil) {
		f.Fatalf("state %v with answer %v", c.State, c.Answer)
	}
	return c
}

// want claims and fails unless the key is in this state.
func (f *fixture) want(state idempotency.State, again bool, lease, ttl time.Duration) idempotency.Claim {
	f.Helper()
	c := f.claim(lease, ttl)
	if c.State != state || c.Again != again {
		f.Fatalf("the key is %v, again %v; want %v, again %v", c.State, c.Again, state, again)
	}
	return c
}

// await claims until the key is no longer in this state.
func (f *fixture) await(past idempotency.State, lease, ttl time.Duration) idempotency.Claim {
	f.Helper()
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if c := f.claim(lease, ttl); c.State != past {
			return c
		}
	}
	f.Fatalf("the key is %v after %v", past, soon)
	return idempotency.Claim{}
}

func (f *fixture) complete(token uint64, status int, ttl time.Duration) error {
	return f.store.Complete(context.Background(), f.id, token, &idempotency.Answer{Status: status}, ttl)
}

func (f *fixture) must(what string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

func (f *fixture) lost(what string, err error) {
	f.Helper()
	if !errors.Is(err, idempotency.ErrLost) {
		f.Fatalf("%s gave %v, want ErrLost", what, err)
	}
}

func running(f *fixture) {
	f.want(idempotency.Claimed, false, long, long)
	c := f.want(idempotency.Running, false, long, long)
	if c.Wait <= 0 || c.Wait > long {
		f.Fatalf("a lease of %v has %v left", long, c.Wait)
	}
}

func done(f *fixture) {
	want := idempotency.Answer{
		Status:   http.StatusCreated,
		Header:   http.Header{"Content-Type": {"application/json"}, "Set-Cookie": {"a=1", "b=2"}, "X-Bytes": {"\x80 ü <>&"}},
		Trailer:  http.Header{"Checksum": {"1"}},
		Body:     append([]byte("\x00\xff{}"), bytes.Repeat([]byte("a"), 100_000)...),
		TooLarge: true,
	}
	given := want
	c := f.want(idempotency.Claimed, false, long, long)
	f.must("Complete", f.store.Complete(context.Background(), f.id, c.Token, &given, long))
	for range 2 {
		got := f.want(idempotency.Done, false, long, long).Answer
		if got.Status != want.Status || got.TooLarge != want.TooLarge || !bytes.Equal(got.Body, want.Body) ||
			!reflect.DeepEqual(got.Header, want.Header) || !reflect.DeepEqual(got.Trailer, want.Trailer) {
			f.Fatalf("the answer came back with status %d, header %q, trailer %q and %d bytes, too large %v",
				got.Status, got.Header, got.Trailer, len(got.Body), got.TooLarge)
		}
	}
}

func bare(f *fixture) {
	c := f.want(idempotency.Claimed, false, long, long)
	f.must("Complete", f.complete(c.Token, 204, long))
	if a := f.want(idempotency.Done, false, long, long).Answer; a.Status != 204 || len(a.Body)+len(a.Header)+len(a.Trailer) != 0 || a.TooLarge {
		f.Fatalf("the answer came back as %+v", a)
	}
}

func keepsNothing(f *fixture) {
	a := &idempotency.Answer{Status: 200, Header: http.Header{"A": {"1"}}, Body: []byte("body")}
	c := f.want(idempotency.Claimed, false, long, long)
	f.must("Complete", f.store.Complete(context.Background(), f.id, c.Token, a, long))
	a.Status, a.Body[0] = 500, 'X'
	a.Header["A"][0] = "2"
	if got := f.want(idempotency.Done, false, long, long).Answer; got.Status != 200 || string(got.Body) != "body" || got.Header.Get("A") != "1" {
		f.Fatalf("changed with what was given: %+v", got)
	}
}

func released(f *fixture) {
	c := f.want(idempotency.Claimed, false, long, long)
	f.must("Release", f.store.Release(context.Background(), f.id, c.Token))
	f.print[0]++ // as if never claimed: another request may have it
	if later := f.want(idempotency.Claimed, false, long, long); later.Token == c.Token {
		f.Fatalf("token %d was given twice", c.Token)
	}
	f.lost("Complete with the token of a released run", f.complete(c.Token, 200, long))
}

func mismatch(f *fixture) {
	c := f.want(idempotency.Claimed, false, short, long)
	other := *f
	other.print[31]++
	for end := time.Now().Add(2 * short); time.Now().Before(end); time.Sleep(time.Millisecond) {
		other.want(idempotency.Mismatch, false, long, long) // running, then overdue
	}
	f.must("Complete", f.complete(c.Token, 200, long))
	other.want(idempotency.Mismatch, false, long, long)
	f.want(idempotency.Done, false, long, long)
}

func overdue(f *fixture) {
	first := f.want(idempotency.Claimed, false, short, long)
	second := f.await(idempotency.Running, long, long)
	if second.State != idempotency.Claimed || !second.Again || second.Token <= first.Token {
		f.Fatalf("after the lease: %+v, want a re-run with a token above %d", second, first.Token)
	}
	f.must("Complete", f.complete(second.Token, 200, long))
	f.want(idempotency.Done, false, long, long)
}

func overdueTwice(f *fixture) {
	f.want(idempotency.Claimed, false, short, long)
	f.await(idempotency.Running, short, long)
	if c := f.await(idempotency.Running, long, long); c.State != idempotency.Claimed || !c.Again {
		f.Fatalf("after the second lease: %+v, want a re-run", c)
	}
}

func late(f *fixture) {
	ctx := context.Background()
	first := f.want(idempotency.Claimed, false, short, long)
	second := f.await(idempotency.Running, long, long)
	f.lost("a late Complete", f.complete(first.Token, 500, long))
	f.lost("a late Renew", f.store.Renew(ctx, f.id, first.Token, long))
	f.lost("a late Release", f.store.Release(ctx, f.id, first.Token))
	f.want(idempotency.Running, false, long, long)
	f.must("Complete", f.complete(second.Token, 201, long))
	f.lost("a Complete after all", f.complete(first.Token, 500, long))
	f.lost("a second Complete", f.complete(second.Token, 500, long))
	f.lost("a Renew after Complete", f.store.Renew(ctx, f.id, second.Token, long))
	f.lost("a Release after Complete", f.store.Release(ctx, f.id, second.Token))
	if a := f.want(idempotency.Done, false, long, long).Answer; a.Status != 201 {
		f.Fatalf("the answer is %d, want 201 of the run that had the lease", a.Status)
	}
}

func lateAlone(f *fixture) {
	c := f.want(idempotency.Claimed, false, time.Nanosecond, long)
	f.must("Complete after the lease", f.complete(c.Token, 200, long))
	f.want(idempotency.Done, false, long, long)
}

func renewed(f *fixture) {
	c := f.want(idempotency.Claimed, false, short, long)
	f.must("Renew", f.store.Renew(context.Background(), f.id, c.Token, long))
	for end := time.Now().Add(2 * short); time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.want(idempotency.Running, false, long, long)
	}
}

func leaseEnded(f *fixture) {
	c := f.want(idempotency.Claimed, false, long, long)
	f.must("Renew with a lease of 0", f.store.Renew(context.Background(), f.id, c.Token, 0))
	other := *f
	other.print[31]++
	other.want(idempotency.Mismatch, false, long, long)
	f.want(idempotency.Claimed, true, long, long)
	f.lost("Complete of the run whose lease was ended", f.complete(c.Token, 200, long))
}

func expired(f *fixture) {
	c := f.want(idempotency.Claimed, false, long, long)
	f.must("Complete", f.complete(c.Token, 200, short))
	if c = f.await(idempotency.Done, long, long); c.State != idempotency.Claimed || c.Again {
		f.Fatalf("after the TTL: %+v, want a new run", c)
	}
}

func abandoned(f *fixture) {
	f.want(idempotency.Claimed, false, time.Nanosecond, short)
	f.print[0]++
	if c := f.await(idempotency.Mismatch, long, long); c.State != idempotency.Claimed || c.Again {
		f.Fatalf("after the TTL of a claim: %+v, want a new run", c)
	}
}

func strangers(f *fixture) {
	ctx := context.Background()
	f.lost("Complete of an unknown key", f.complete(1, 200, long))
	f.lost("Renew of an unknown key", f.store.Renew(ctx, f.id, 1, long))
	f.lost("Release of an unknown key", f.store.Release(ctx, f.id, 1))
	c := f.want(idempotency.Claimed, false, long, long)
	f.lost("Complete with another token", f.complete(c.Token+1, 200, long))
	f.lost("Release with another token", f.store.Release(ctx, f.id, c.Token+1))
	f.want(idempotency.Running, false, long, long)
}

func together(f *fixture) { f.race(false) }

func togetherOverdue(f *fixture) {
	f.want(idempotency.Claimed, false, time.Nanosecond, long)
	f.race(true)
}

// race claims by 16 at once, of which one must get the key.
func (f *fixture) race(again bool) {
	f.Helper()
	const callers = 16
	var wg sync.WaitGroup
	claims := make([]idempotency.Claim, callers)
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() { claims[i], errs[i] = f.store.Claim(context.Background(), f.id, f.print, long, long) })
	}
	wg.Wait()
	got := 0
	for i, c := range claims {
		f.must("Claim", errs[i])
		if c.State == idempotency.Claimed {
			got++
			if c.Again != again {
				f.Errorf("the key was claimed with again %v, want %v", c.Again, again)
			}
		} else if c.State != idempotency.Running {
			f.Errorf("a claim found the key %v", c.State)
		}
	}
	if got != 1 {
		f.Fatalf("%d of %d got the key, want 1", got, callers)
	}
}

func apart(f *fixture) {
	first := f.want(idempotency.Claimed, false, long, long)
	other := *f
	other.id = newID()
	second := other.want(idempotency.Claimed, false, long, long)
	f.must("Complete", f.complete(first.Token, 201, long))
	other.want(idempotency.Running, false, long, long)
	f.must("Release", f.store.Release(context.Background(), other.id, second.Token))
	f.want(idempotency.Done, false, long, long)
}
