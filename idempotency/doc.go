// Package idempotency makes the keys that let a server recognise a repeated
// request.
package idempotency
