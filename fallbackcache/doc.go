// Package fallbackcache keeps the last good answer to a GET, and finds it
// again when there is no other.
//
// The two methods one needs are [Cache.Keep], told of every response that
// arrives, and [Cache.Find], asked when the upstream cannot answer; [Cache.Look]
// tells more, also what may be given without asking the upstream at all. A
// third, [Cache.Invalidate], is told of the responses to unsafe methods.
//
// RFC 9111 decides what may be stored and which requests an answer fits. How
// old it may be is decided by the operator's window, within what the origin
// permits: an answer is never given stale against must-revalidate,
// proxy-revalidate, s-maxage, no-cache or stale-if-error=0, and never stored
// against no-store. An answer without a stated lifetime is stale from the
// start: this is a fallback, not a guess.
//
// It is a private cache with several users: answers are kept apart by the
// credentials of the request (see [Cache.Credentials] and [Cache.Partition]).
// What the eye of this package cannot see, such as client certificates, needs
// a Partition, or a Cache for each.
//
// It lives in memory and, with [Cache.Dir], in files: one for each URI and
// audience, checksummed, written aside and renamed, shared by the processes of a user.
// A file that is damaged, or of another version, is never given, and removed.
// [Cache.Shared] makes it a shared cache, and its folder one for several users.
// Beside the standard library it imports golang-lru.
package fallbackcache
