// Package sqlitestore is an idempotency.Store in an SQLite file: it survives
// the death of its processes, and all processes of one host can share it. The
// file must lie on a local disk.
//
// With [Store.Tx] a handler writes its effect into the same file, in the
// transaction that stores its answer: both are there or neither is, wherever
// the process dies. That is "exactly once".
//
// Writers take turns, over all processes: a handler that holds the transaction
// for long holds up the others.
package sqlitestore
