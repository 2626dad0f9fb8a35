package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/resagent/resagent/idempotency"
)

// Store is an idempotency.Store in a Redis of version 5 or later. It is safe
// for concurrent use, by any number of processes.
type Store struct {
	// Client of the Redis: *redis.Client, or any other of that package. The
	// caller closes it. A step is sent again as the client is told to
	// (redis.Options.MaxRetries): claiming and completing twice is the same as
	// once.
	Client redis.Scripter
	// Prefix of all keys in Redis; empty: "idempotency:". In a Redis Cluster
	// it needs a hash tag, "{idempotency}:" for example, since the keys and
	// the counter of tokens must lie in one slot.
	Prefix string
}

var _ idempotency.Store = (*Store)(nil)

// A key is a hash of the fingerprint, the run's token, the end of its lease
// (microseconds since 1970), the call that claimed it, whether that was a
// re-run, and the answer. Redis itself ends it with its TTL.
//
// Lua's numbers are doubles: exact for microseconds until the year 2255.
var claim = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local k = redis.call('HMGET', KEYS[1], 'print', 'token', 'lease', 'call', 'again', 'answer')
local again = '0'
if k[1] then
	if k[1] ~= ARGV[1] then return {'mismatch'} end
	if k[6] then return {'done', k[6]} end
	if k[4] == ARGV[4] then return {'claimed', k[2], k[5]} end
	local left = tonumber(k[3]) - now
	if left > 0 then return {'running', string.format('%.0f', left)} end
	again = '1'
end
local token = string.format('%.0f', redis.call('INCR', KEYS[2]))
redis.call('HSET', KEYS[1], 'print', ARGV[1], 'token', token, 'lease', string.format('%.0f', now + ARGV[2]), 'call', ARGV[4], 'again', again)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'claimed', token, again}`)

// The other three do something only for the run that holds the key, and say
// whether they did.
var (
	renew = redis.NewScript(`
local k = redis.call('HMGET', KEYS[1], 'token', 'answer')
if k[1] ~= ARGV[1] or k[2] then return 0 end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lease', string.format('%.0f', t[1] * 1000000 + t[2] + ARGV[2]))
return 1`)

	complete = redis.NewScript(`
local k = redis.call('HMGET', KEYS[1], 'token', 'answer')
if k[1] ~= ARGV[1] then return 0 end
if k[2] then return k[2] == ARGV[2] and 1 or 0 end
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`)

	release = redis.NewScript(`
local k = redis.call('HMGET', KEYS[1], 'token', 'answer')
if k[1] ~= ARGV[1] or k[2] then return 0 end
redis.call('DEL', KEYS[1])
return 1`)
)

// Claim implements idempotency.Store.
func (s *Store) Claim(ctx context.Context, id idempotency.ID, print idempotency.Fingerprint, lease, ttl time.Duration) (idempotency.Claim, error) {
	if s.Client == nil {
		return idempotency.Claim{}, errNoClient
	}
	keys := []string{s.key(id), s.prefix() + "token"}
	reply, err := claim.Run(ctx, s.Client, keys, print[:], up(lease, time.Microsecond), up(ttl, time.Millisecond), rand.Text()).StringSlice()
	if err != nil {
		return idempotency.Claim{}, failed("Claim", err)
	}
	c, err := parse(reply)
	if err != nil {
		return idempotency.Claim{}, failed("Claim", fmt.Errorf("%s: %w", keys[0], err))
	}
	return c, nil
}

// Renew implements idempotency.Store.
func (s *Store) Renew(ctx context.Context, id idempotency.ID, token uint64, lease time.Duration) error {
	return s.step(ctx, "Renew", renew, id, token, up(lease, time.Microsecond))
}

// Complete implements idempotency.Store. The same answer a second time, from
// the run that gave it, is no error: it is a repetition whose first reply was
// lost.
func (s *Store) Complete(ctx context.Context, id idempotency.ID, token uint64, answer *idempotency.Answer, ttl time.Duration) error {
	data, err := answer.MarshalBinary()
	if err != nil {
		return failed("Complete", err)
	}
	return s.step(ctx, "Complete", complete, id, token, data, up(ttl, time.Millisecond))
}

// Release implements idempotency.Store.
func (s *Store) Release(ctx context.Context, id idempotency.ID, token uint64) error {
	return s.step(ctx, "Release", release, id, token)
}

// errNoClient is for a Store that was not given what it needs.
var errNoClient = errors.New("redisstore: Store.Client is nil; set it to a *redis.Client")

func (s *Store) step(ctx context.Context, name string, script *redis.Script, id idempotency.ID, token uint64, args ...any) error {
	if s.Client == nil {
		return errNoClient
	}
	n, err := script.Run(ctx, s.Client, []string{s.key(id)}, append([]any{token}, args...)...).Int()
	switch {
	case err != nil:
		return failed(name, err)
	case n != 1:
		return idempotency.ErrLost
	}
	return nil
}

func (s *Store) prefix() string {
	if s.Prefix == "" {
		return "idempotency:"
	}
	return s.Prefix
}

func (s *Store) key(id idempotency.ID) string { return s.prefix() + hex.EncodeToString(id[:]) }

// up gives a duration in a unit, rounded up: none becomes 0, which would end
// the key at once.
func up(d, unit time.Duration) int64 { return int64((d + unit - 1) / unit) }

func failed(step string, err error) error { return fmt.Errorf("redisstore: %s: %w", step, err) }
