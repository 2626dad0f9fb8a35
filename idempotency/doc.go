// Package idempotency lets a server recognise a repeated request, so that a
// retried charge charges once (IETF draft "The Idempotency-Key HTTP Header
// Field").
//
// The client's half: [Set] gives a request its key, before the first attempt
// and once for all of them; [Replayed] tells whether a response is the stored
// one of an earlier attempt.
//
// The server's half: [Handler] wraps an http.Handler. It runs it once for each
// key, and gives the stored answer to repetitions. Where keys and answers are
// kept is a [Store]: [Memory] for one process, package sqlitestore for the
// processes of one host; package storetest tries any other.
package idempotency
