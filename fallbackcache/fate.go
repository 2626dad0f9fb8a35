package fallbackcache

import (
	"net/http"
	"time"
)

// Fate is what became of a response that [Cache.Keep] was told of.
type Fate uint8

const (
	Stored      Fate = iota // kept; or, for a 304, brought up to date what is kept
	Uncacheable             // its method, status or kind is not kept, or it states no lifetime where it must
	Forbidden               // it says no-store, no-cache, Vary: *, or private to a shared cache; or it is 401 or 403
	NotPublic               // a shared cache keeps only what says public, and sets no cookie
	ByRequest               // the request said no-store, had a body or asked for a part
	OtherSender             // the base changed credentials, or fields that Vary names, on the way
	TooLarge                // larger than the limits, or all that is being read is
	Incomplete              // not read to its end, not as long as it said, or its end cannot be seen
	Superseded              // a newer one is there, or what it is about was changed meanwhile
	fates
)

var fateNames = [fates]string{
	Stored: "stored", Uncacheable: "uncacheable", Forbidden: "forbidden", NotPublic: "not public", ByRequest: "by request",
	OtherSender: "other sender", TooLarge: "too large", Incomplete: "incomplete", Superseded: "superseded",
}

// String names the fate, in one or two words that do not change.
func (f Fate) String() string {
	if f >= fates {
		return "unknown"
	}
	return fateNames[f]
}

// pending is the fate of what is still being read.
const pending = fates

// KeepAnd is Keep for what was asked for at the given stamp (see [Cache.Stamp]), and
// tells, once, what became of the response: before it returns, or while the caller
// reads or closes the body. Told is called without locks held; nil is nobody.
func (c *Cache) KeepAnd(req *http.Request, resp *http.Response, asked Stamp, now time.Time, told func(Fate)) *http.Response {
	return c.keepAnd(req, resp, asked, now, nil, told)
}

func (c *Cache) keepAnd(req *http.Request, resp *http.Response, asked Stamp, now time.Time, f *Flight, told func(Fate)) *http.Response {
	out, fate := c.keep(req, resp, asked, now, f)
	if fate == pending {
		out.Body.(*recorder).told = told
		return out
	}
	c.ended(fate, told)
	return out
}

func (c *Cache) ended(fate Fate, told func(Fate)) {
	c.counts.fates[fate].Add(1)
	if told != nil {
		told(fate)
	}
}
