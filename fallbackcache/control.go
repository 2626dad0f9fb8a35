package fallbackcache

import (
	"net/http"
	"time"
)

// responseControl is what a response says of its own storing.
type responseControl struct {
	noStore, noCache, mustUnderstand, stated bool
	neverStale                               bool     // must-revalidate, proxy-revalidate, s-maxage
	without                                  []string // fields that no-cache="..." names
	maxAge, staleIfError                     delta
	staleWhileRevalidate                     delta
}

// readResponse reads Cache-Control and, where that is missing, Pragma. The
// header's names must be canonical.
func readResponse(h http.Header) (cc responseControl) {
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		cc.noCache = pragmaNoCache(h)
		return cc
	}
	for d := range directives(lines) {
		switch d.name {
		case "no-store":
			cc.noStore = true
		case "no-cache":
			if names := members(d.value); d.quoted && len(names) > 0 {
				cc.without = append(cc.without, names...)
			} else {
				cc.noCache = true
			}
		case "must-revalidate", "proxy-revalidate":
			cc.neverStale = true
		case "must-understand":
			cc.mustUnderstand = true
		case "public", "private":
			cc.stated = true
		case "max-age":
			cc.maxAge.add(d)
		case "s-maxage":
			// It implies proxy-revalidate (RFC 9111, section 5.2.2.10). A
			// private cache is bound by neither; we are careful with what is
			// stale all the same.
			cc.neverStale = true
		case "stale-if-error":
			cc.staleIfError.add(d)
		case "stale-while-revalidate":
			cc.staleWhileRevalidate.add(d)
		}
	}
	return cc
}

// requestControl is what a request says of answers from a cache.
type requestControl struct {
	noStore, noCache, onlyIfCached           bool
	anyStale                                 bool // max-stale without a value
	maxAge, minFresh, maxStale, staleIfError delta
}

// readRequest is readResponse for a request.
func readRequest(h http.Header) (cc requestControl) {
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		cc.noCache = pragmaNoCache(h) // RFC 9111, section 5.4
		return cc
	}
	for d := range directives(lines) {
		switch d.name {
		case "no-store":
			cc.noStore = true
		case "no-cache":
			cc.noCache = true
		case "only-if-cached":
			cc.onlyIfCached = true
		case "max-age":
			cc.maxAge.add(d)
		case "min-fresh":
			cc.minFresh.add(d)
		case "max-stale":
			if d.hasValue {
				cc.maxStale.add(d)
			} else {
				cc.anyStale = true
			}
		case "stale-if-error":
			cc.staleIfError.add(d)
		}
	}
	return cc
}

// tolerates is how stale an answer the request takes on a failure (RFC 5861,
// section 4; RFC 9111, section 5.2.1.2).
func (cc requestControl) tolerates() time.Duration {
	if cc.anyStale {
		return farAway
	}
	return max(cc.staleIfError.d, cc.maxStale.d)
}

func pragmaNoCache(h http.Header) bool {
	for d := range directives(h["Pragma"]) {
		if d.name == "no-cache" {
			return true
		}
	}
	return false
}

// OnlyIfCached tells whether a request asks for an answer without the network
// (RFC 9111, section 5.2.1.7). Where [Cache.Find] has none, the answer is 504.
func OnlyIfCached(req *http.Request) bool {
	return readRequest(canonical(req.Header)).onlyIfCached
}
