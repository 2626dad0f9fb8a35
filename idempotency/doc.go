// Package idempotency makes the keys that let a server recognise a repeated
// request, so that a retried charge charges once (IETF draft "The
// Idempotency-Key HTTP Header Field").
//
// [Set] gives a request its key, before the first attempt and once for all of
// them; [Replayed] tells whether a response is the stored one of an earlier
// attempt.
//
// This is the client's half. The server's half, an http.Handler that stores
// and replays, is not there yet: a key helps only where the server honours it.
package idempotency
