package idempotency

import (
	"context"
	"errors"
	"time"
)

// ID names a key within its scope: a SHA-256 of both. So a store holds neither
// keys nor credentials, and all IDs have one length.
type ID [32]byte

// Fingerprint tells one request from another that comes with the same key: a
// SHA-256 of method, path, query, chosen fields and body.
type Fingerprint [32]byte

// State of a key, as a claim finds it.
type State uint8

const (
	Claimed  State = iota + 1 // the caller's: it is to run the handler
	Running                   // another run holds the lease
	Done                      // there is an answer
	Mismatch                  // the key belongs to another request
)

var stateNames = [...]string{Claimed: "claimed", Running: "running", Done: "done", Mismatch: "mismatch"}

// String names the state.
func (s State) String() string {
	if int(s) >= len(stateNames) || stateNames[s] == "" {
		return "unknown"
	}
	return stateNames[s]
}

// Claim is what a store says of a key.
type Claim struct {
	State State
	// Token of the run, for a Claimed key. Of two runs of a key the later has
	// the larger one, as long as the store keeps the key. It is never 0.
	Token uint64
	// Again says that an earlier run of a Claimed key was begun and neither
	// completed nor released: it may have had its effect.
	Again bool
	// Wait is how long the lease of a Running key still holds.
	Wait time.Duration
	// Answer of a key that is Done. It must not be changed.
	Answer *Answer
}

// ErrLost says that the token is not that of the key's run (any more): the
// lease ended and another run took the key, or the key has been answered,
// released or forgotten. Whoever gets it must not count on its own result.
var ErrLost = errors.New("idempotency: the lease was lost to another run of this key")

// ErrUndone says that Complete failed, and that what the handler did was
// undone with it: a store that keeps effect and answer in one transaction
// wraps it. The caller may be told to try again.
var ErrUndone = errors.New("idempotency: the answer was not stored, and the effect was undone with it")

// ErrFull says that a store has no room for another key. What it holds, it
// keeps: a key thrown out early could be charged twice.
var ErrFull = errors.New("idempotency: the store is full")

// Store keeps keys and their answers. Each method is one atomic step, also
// among processes that share the store, and safe for concurrent use. Package
// storetest holds a store to all of this.
//
// Lease and TTL are above 0, but for Renew. A store measures them by a clock that does not
// jump where it has one.
type Store interface {
	// Claim takes a key for a run if it is free: unknown, over its TTL, or its
	// run is over its lease. A key of another fingerprint is a Mismatch in
	// every state, also if its lease is over. A claim that is not completed is
	// remembered (for Again) until ttl has passed.
	Claim(ctx context.Context, id ID, print Fingerprint, lease, ttl time.Duration) (Claim, error)

	// Renew begins the lease anew, or fails with ErrLost. A lease of 0 ends it:
	// nobody knows what the run has done. The next claim has the key at once,
	// as Again, and what the store can undo of the run is undone.
	Renew(ctx context.Context, id ID, token uint64, lease time.Duration) error

	// Complete stores the answer, to be given for ttl, or fails with ErrLost
	// and changes nothing. A lease that is over but that nobody else has
	// taken is not lost. The store must not keep the Answer nor its parts.
	Complete(ctx context.Context, id ID, token uint64, answer *Answer, ttl time.Duration) error

	// Release frees the key, as if it had never been claimed, or fails with
	// ErrLost and changes nothing.
	Release(ctx context.Context, id ID, token uint64) error
}
