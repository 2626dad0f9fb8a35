package transport

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/resagent/resagent/policies"
)

// judges decide when a closed circuit opens: one gobreaker for failures, one
// for slow calls. Each is told what counts against the upstream when that is
// known, as of a call without length, because its window forgets calls that
// began before it. It asks whether to open then and at no other time, so the
// calls that it compares with are counted beside it: telling it each success
// as well would lock it twice and read the clock twice a call.
type judges struct {
	failures *gobreaker.CircuitBreaker[struct{}]
	slow     *gobreaker.CircuitBreaker[struct{}] // nil: no call is slow
	ended    ended
}

func newJudges(set policies.CircuitBreaker) *judges {
	j := &judges{}
	j.ended.begin(set.Window)
	j.failures = j.judge(set, set.FailureRate)
	if set.SlowCallDuration > 0 {
		j.slow = j.judge(set, set.SlowCallRate)
	}
	return j
}

func (j *judges) judge(set policies.CircuitBreaker, rate float64) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Interval:     set.Window,
		BucketPeriod: j.ended.part,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			// The two windows move a moment apart, which may lose an end
			// whose failure is still there.
			all := max(j.ended.sum(time.Since(j.ended.born)), uint64(n.TotalFailures))
			return all >= uint64(set.MinRequests) && float64(n.TotalFailures) >= rate*float64(all)
		},
	})
}

// told takes in how a call ended, and says whether the circuit is to open.
func (j *judges) told(o outcome) (opens bool) {
	j.ended.add(time.Since(j.ended.born))
	if o.failed() {
		opens = against(j.failures)
	}
	if j.slow != nil && (o == slowSuccess || o == slowFailure) {
		opens = against(j.slow) || opens
	}
	return opens
}

var errFailed = errors.New("failed")

func fails() (struct{}, error) { return struct{}{}, errFailed }

// against tells a judge of one more call that counts against the upstream.
func against(judge *gobreaker.CircuitBreaker[struct{}]) (opens bool) {
	_, err := judge.Execute(fails)
	return err != errFailed || judge.State() == gobreaker.StateOpen // else another call has just opened it
}

// ended counts the calls that ended within a window, in the parts that
// gobreaker divides it into. Safe for concurrent use.
type ended struct {
	born  time.Time // times count from here
	part  time.Duration
	parts []atomic.Uint64 // number of the part: 32 | calls: 32
}

func (e *ended) begin(window time.Duration) {
	e.born, e.part = time.Now(), max(window/10, 1)
	e.parts = make([]atomic.Uint64, (window+e.part-1)/e.part) // as gobreaker rounds
}

// add counts a call that ended at the time now.
func (e *ended) add(now time.Duration) {
	n := uint32(now / e.part)
	p := &e.parts[n%uint32(len(e.parts))]
	for {
		was := p.Load()
		age, is := int32(n-uint32(was>>32)), was+1
		if age < 0 {
			return // the window has gone on by its whole length since now
		}
		if age > 0 {
			is = uint64(n)<<32 | 1
		}
		if p.CompareAndSwap(was, is) {
			return
		}
	}
}

// sum is how many ended within the window before the time now, and since.
func (e *ended) sum(now time.Duration) (all uint64) {
	n := uint32(now / e.part)
	for i := range e.parts {
		p := e.parts[i].Load()
		if age := int32(n - uint32(p>>32)); int(age) < len(e.parts) {
			all += p & (1<<32 - 1)
		}
	}
	return all
}
