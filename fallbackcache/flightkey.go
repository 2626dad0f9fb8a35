package fallbackcache

import (
	"hash/maphash"
	"net/http"
	"strings"
)

// flightKey is what a request shares a flight by, and how it may.
type flightKey struct {
	key         uint64
	conditional bool // it has preconditions of its own
	anew        bool // it wants to have its answer anew, or only from the cache
}

// flightKey tells whether the answer to req could be another's too, and the key
// of those. It does not allocate, and goes over the fields once, where their
// names are canonical.
func (c *Cache) flightKey(req *http.Request) (k flightKey, ok bool) {
	return c.flightKeyOf(req, req.Header, true)
}

func (c *Cache) flightKeyOf(req *http.Request, h http.Header, asIs bool) (k flightKey, ok bool) {
	c.ready()
	if !isGet(req) || withBody(req) {
		return k, false
	}
	var space [256]byte
	uri, ok := appendTarget(space[:0], req)
	if !ok {
		return k, false
	}
	seed := c.memory.seed
	k.key = maphash.Bytes(seed, uri)
	if req.Host != "" && req.Host != req.URL.Host {
		k.key += 3 * maphash.String(seed, req.URL.Host)
	}
	if c.Partition != nil {
		k.key += 5 * maphash.String(seed, c.Partition(req))
	}
	if req.URL.User != nil {
		k.key += 7 * maphash.String(seed, req.URL.User.String())
	}
	for name, values := range h {
		if asIs && !isCanonical(name) {
			return c.flightKeyOf(req, rename(h), false)
		}
		if len(values) == 0 {
			continue
		}
		switch name {
		case "Range", "If-Range", "If-Match", "If-Unmodified-Since", "Upgrade": // as originOnly
			return k, false
		case "If-None-Match", "If-Modified-Since":
			k.conditional = true
			continue
		case "Cache-Control", "Pragma":
			cc := readRequest(h)
			k.anew = cc.noStore || cc.noCache || cc.onlyIfCached || cc.maxAge.set || cc.minFresh.set
			continue
		case "Accept":
			if strings.HasPrefix(values[0], "text/event-stream") {
				return k, false
			}
		case "Accept-Charset", "Accept-Encoding", "Accept-Language", "Origin": // by which answers vary that name no user
		default:
			if !c.fields[name] {
				continue
			}
		}
		one := maphash.String(seed, name)
		for _, v := range values {
			one = one*11 + maphash.String(seed, v)
		}
		k.key += one * one // a sum, because the order of fields is chance
	}
	return k, true
}
