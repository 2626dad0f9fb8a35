package fallbackcache

import (
	"net/http"
	"sync"
	"time"
)

const (
	// maxRevalidations is how many are under way at a time, for all keys.
	maxRevalidations = 64
	// vainTime is how long a key's calls are not waited for after one whose
	// answer was for nobody else ("hit-for-miss"). The next one then finds out
	// whether that has changed, and nobody waits for it either.
	vainTime = 10 * time.Second
	// vainKeys is how many such keys are remembered.
	vainKeys = 1024
)

// Flight is a call under way whose answer may do for others that ask for the
// same. Who leads makes the call, gives its response to Keep or Confirm, and calls
// End on every path; the others wait for Done, and then ask for an Answer. An answer
// comes from what was stored, by all of its rules: what is not for a follower it
// does not get. All methods are safe for concurrent use.
type Flight struct {
	cache   *Cache
	key     uint64
	began   time.Time
	behind  bool // a revalidation, for which nobody waits
	riding  bool // a recorder ends it
	forSome bool // what was to be stored may do for others
	crossed bool // by a change, so that it was not stored

	// With the lock of flights; stored also after done without.
	done          chan struct{} // nil: nobody waits
	ended, stored bool
}

// flights are those of a Cache. Keys are hashes: two requests that share one by
// accident wait for each other, and get nothing of each other's.
type flights struct {
	mu           sync.Mutex
	ahead        map[uint64]*Flight
	revalidating map[uint64]bool
	vain         [vainKeys]struct {
		key   uint64
		until time.Time
	}
}

// Join finds the call under way that req may wait for, at most for the given
// time, or makes req's own call the one that others wait for: then leads is
// true. A call that has been under way for longer than that is waited for no
// more. The flight is nil for a request that neither waits nor is waited for:
// one that could not be answered from the cache, or wants to have its answer
// anew, or of whose key an answer was lately for nobody else.
//
// Requests share a flight if they have the same target, server, credentials and
// partition, and the same Origin and Accept fields, by which answers usually
// vary.
func (c *Cache) Join(req *http.Request, wait time.Duration, now time.Time) (f *Flight, leads bool) {
	k, ok := c.flightKey(req)
	if !ok {
		return nil, false
	}
	if f, leads = c.flights.join(k, wait, now); leads {
		f.cache = c
	}
	return f, leads
}

func (l *flights) join(k flightKey, wait time.Duration, now time.Time) (f *Flight, leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := &l.vain[k.key%vainKeys]; v.key == k.key {
		if now.Before(v.until) || k.anew || k.conditional {
			return nil, false
		}
		v.until = now.Add(vainTime)
		return &Flight{key: k.key, began: now}, true
	}
	if f := l.ahead[k.key]; f != nil && now.Sub(f.began) < wait {
		if k.anew {
			return nil, false
		}
		if f.done == nil {
			f.done = make(chan struct{})
		}
		return f, false
	}
	if k.anew || k.conditional { // its 304 would be for it alone
		return nil, false
	}
	f = &Flight{key: k.key, began: now}
	l.ahead[k.key] = f
	return f, true
}

// Revalidate begins the flight of a call in the background, that asks anew for
// what is stored for req. It is nil where one is under way for that already, or
// many are in all: busy tells of the latter.
func (c *Cache) Revalidate(req *http.Request, now time.Time) (f *Flight, busy bool) {
	k, ok := c.flightKey(req)
	if !ok {
		return nil, false
	}
	if f, busy = c.flights.revalidate(k.key, now); f != nil {
		f.cache = c
		c.counts.revalidations.Add(1)
	}
	if busy {
		c.counts.dropped.Add(1)
	}
	return f, busy
}

func (l *flights) revalidate(key uint64, now time.Time) (f *Flight, busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revalidating[key] {
		return nil, false
	}
	if len(l.revalidating) >= maxRevalidations {
		return nil, true
	}
	f = &Flight{key: key, began: now, behind: true}
	l.revalidating[key] = true
	if l.ahead[key] == nil {
		l.ahead[key] = f // of use to those who come when the window is over
	}
	return f, false
}

// Done is closed when the answer is stored whole, or it is certain that it will
// not be. It is for followers.
func (f *Flight) Done() <-chan struct{} { return f.done }

// Answer is the follower's, once the flight is done: what is stored, if it may
// be given without asking again; ok is false if not. Before is what was found
// for req before it waited, nil: nothing. MaxStale is that of [Cache.Look].
func (f *Flight) Answer(req *http.Request, before *Answer, maxStale time.Duration, now time.Time) (a *Answer, ok bool) {
	c := f.cache
	if a = c.Look(req, maxStale, now); a != nil && a.Immediate {
		a.collapsed, a.wasStale = true, before != nil
		c.counts.collapsed.Add(1)
		return a, true
	}
	if f.stored { // it varies by something else: none of them should wait again
		f.wasVain(now)
	}
	return nil, false
}

// Keep is [Cache.KeepAnd] for the call that leads. The flight ends with the
// response's body, or at once where that is for nobody else.
func (f *Flight) Keep(req *http.Request, resp *http.Response, asked Stamp, now time.Time, told func(Fate)) *http.Response {
	out := f.cache.keepAnd(req, resp, asked, now, f, told)
	if f.riding || f.forSome {
		f.wasNotVain()
	}
	if f.riding {
		return out
	}
	// A failure says nothing of the answers to come.
	if s := resp.StatusCode; !f.forSome && s < 500 && s != http.StatusNotModified && s != http.StatusTooManyRequests && s != http.StatusRequestTimeout {
		f.wasVain(now)
	}
	f.end(f.forSome && !f.crossed)
	return out
}

// Confirm is [Cache.Confirm] for the call that leads, and ends the flight.
func (f *Flight) Confirm(req *http.Request, a *Answer, resp *http.Response, asked Stamp, now time.Time) *http.Response {
	out, e := f.cache.confirm(req, a, resp, asked, now)
	next := e.answer(now)
	if e.permit(next, true, 0, requestControl{}); next.Immediate {
		f.wasNotVain()
	} else { // it holds, and must be asked about again
		f.wasVain(now)
	}
	f.end(next.Immediate)
	return out
}

// End ends the flight, if Keep or Confirm has not: its followers go by themselves. It may
// be called again.
func (f *Flight) End() { f.end(false) }

func (f *Flight) end(stored bool) {
	l := &f.cache.flights
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.ended {
		return
	}
	f.ended, f.stored = true, stored
	if l.ahead[f.key] == f {
		delete(l.ahead, f.key)
	}
	if f.behind {
		delete(l.revalidating, f.key)
	}
	if f.done != nil {
		close(f.done)
	}
}

// wasVain remembers that waiting for the key's calls brings nothing.
func (f *Flight) wasVain(now time.Time) {
	l := &f.cache.flights
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &l.vain[f.key%vainKeys]
	v.key, v.until = f.key, now.Add(vainTime)
}

// wasNotVain forgets that.
func (f *Flight) wasNotVain() {
	l := &f.cache.flights
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := &l.vain[f.key%vainKeys]; v.key == f.key {
		v.key = 0
	}
}
