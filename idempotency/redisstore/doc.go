// Package redisstore is an idempotency.Store in a Redis, for the servers of
// several hosts:
//
//	idempotency.Options{Store: &redisstore.Store{Client: redis.NewClient(&redis.Options{Addr: addr})}}
//
// It is a module of its own, so that nobody else links a Redis client. Each
// step is one Lua script, which Redis runs alone.
//
// What Redis forgets, it forgets: an acknowledged record survives Redis's
// death only with "appendonly yes" and "appendfsync always", a fail-over only
// if it has reached the replica, which Redis does not wait for. Eviction must
// be off ("maxmemory-policy noeviction"), or keys go before their TTL. Leases
// and TTLs are measured by the clock of Redis's host, and jump with it.
//
// A handler's effect cannot be in the same transaction: what remains then is
// said at idempotency.Handler.
package redisstore
