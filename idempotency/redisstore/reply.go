package redisstore

import (
	"fmt"
	"strconv"
	"time"

	"github.com/resagent/resagent/idempotency"
)

// parse reads the reply of the claim script: the state, and what belongs to
// it.
func parse(reply []string) (idempotency.Claim, error) {
	strange := fmt.Errorf("the key holds what this package did not write (%d fields); delete it in Redis, or use another Store.Prefix", len(reply))
	switch {
	case len(reply) == 1 && reply[0] == "mismatch":
		return idempotency.Claim{State: idempotency.Mismatch}, nil
	case len(reply) == 2 && reply[0] == "done":
		answer := new(idempotency.Answer)
		if err := answer.UnmarshalBinary([]byte(reply[1])); err != nil {
			return idempotency.Claim{}, err
		}
		return idempotency.Claim{State: idempotency.Done, Answer: answer}, nil
	case len(reply) == 2 && reply[0] == "running":
		left, err := strconv.ParseInt(reply[1], 10, 64)
		if err != nil || left <= 0 || left > int64(1<<63-1)/int64(time.Microsecond) {
			return idempotency.Claim{}, strange
		}
		return idempotency.Claim{State: idempotency.Running, Wait: time.Duration(left) * time.Microsecond}, nil
	case len(reply) == 3 && reply[0] == "claimed":
		token, err := strconv.ParseUint(reply[1], 10, 64)
		if err != nil || token == 0 {
			return idempotency.Claim{}, strange
		}
		return idempotency.Claim{State: idempotency.Claimed, Token: token, Again: reply[2] == "1"}, nil
	}
	return idempotency.Claim{}, strange
}
