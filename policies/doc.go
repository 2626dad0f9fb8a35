// Package policies says what a policy is: how calls to one upstream are
// bounded in time, retried, limited, broken off and, when all fails, answered
// from somewhere else.
//
// A [Set] is what people write. [Compile] checks it whole, resolves what its
// upstreams inherit, and gives a [Snapshot]: immutable, safe for concurrent
// use, and with a [Snapshot.Lookup] whose cost does not grow with the number
// of upstreams.
//
// Files are read by policies/policyfile; this package imports std only.
package policies
