package transport

import (
	"context"
	"time"
)

// Info tells what became of one call. Give one with [WithInfo] and read it
// once RoundTrip (or the client's Do) has returned. It is filled on errors
// too. A client that follows redirects makes several calls: the last one is
// told.
type Info struct {
	// Upstream by its policy's name, or by its authority if no policy names it.
	Upstream string
	// Attempts that were sent. Zero: this host said no before the first one.
	Attempts int
	// Replays are the times the base sent the request again by itself, on a
	// connection that was closed under it: attempts that nobody decided on.
	Replays int
	// Waited is the time spent in the bulkhead's queue, for tokens, between
	// attempts, and for another call's answer.
	Waited time.Duration
	// Served says where the response came from. Empty: there is none.
	Served Source
	// Breaker is the state of the authority's circuit afterwards: "closed",
	// "open", "half-open", or empty if it has none.
	Breaker string
	// Hedged: a second attempt was sent beside a first one that was slow.
	// HedgeWon: it brought the answer.
	Hedged, HedgeWon bool
	// Stopped says why there was no further attempt, if the last one was worth
	// repeating. Empty otherwise.
	Stopped string
}

// Source says where a response came from.
type Source string

const (
	FromUpstream Source = "upstream" // the upstream's own answer to this call
	FromStale    Source = "stale"    // the cache: the upstream failed, was late, or was not to be asked
	FromStatic   Source = "static"   // the fixed answer of the policy
	FromFresh    Source = "fresh"    // the cache, by serve_fresh: the upstream was not asked
	// The cache, by serve_fresh: it is stale, and given while the upstream is
	// asked in the background, as it allowed (stale-while-revalidate).
	FromRevalidating Source = "stale-while-revalidate"
	FromCollapsed    Source = "collapsed" // the cache, by serve_fresh: what another call, under way at the time, has brought
	FromConfirmed    Source = "confirmed" // the cache: the upstream has just said that it is unchanged (304)
	FromHost         Source = "host"      // this host: 504 to a request with only-if-cached, for which nothing is stored
)

type (
	infoKey     struct{}
	upstreamKey struct{}
)

// WithInfo has calls with this context tell what became of them in info, which
// must not be used by two calls at a time.
func WithInfo(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, infoKey{}, info)
}

// WithUpstream names the upstream of calls with this context, in place of
// matching their URL. If the policies have no upstream of that name the URL
// decides after all: a policy that is not there yet must not fail a call. The
// first time that happens an [Event] says so.
func WithUpstream(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, upstreamKey{}, name)
}
