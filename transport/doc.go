// Package transport is a drop-in http.RoundTripper that keeps a program going
// while what it calls does not. Swapping it in is the whole integration:
//
//	client := &http.Client{Transport: &transport.Transport{}}
//
// One call goes through
//
//	Fallback(Key(Deadline(Retry(Breaker(Bulkhead(Rate(Attempt(Base))))))))
//
// which [Transport.RoundTrip] reads as; in place of Retry a slow GET or HEAD may
// have Hedge, if its policy says so. The order is a decision: no permit is
// held during a backoff, the circuit sees every attempt, waiting in our own
// queue is never blamed on the upstream, and our own refusals are not retried,
// not counted as failures, and spend no budget.
//
// What applies to a call is a policy (package policies): the host agent's if
// there is one, else Transport.Policies, else the built-in one, which retries
// safe and idempotent methods within a budget, breaks circuits, and bounds the
// time to the response headers; it limits nothing else. With an agent the
// limits are those of the whole host.
//
// As long as nothing fails a program sees what it would see with the bare base,
// but for this: a request body that is a file or a connection is read and
// written, not handed to the kernel (sendfile, splice), because its progress is
// watched.
//
// [WithUpstream] names the upstream of a call, [WithInfo] tells what became of
// it, and an error that came from this host and not from the upstream is a
// [RejectedError] or one of the timeouts.
package transport
