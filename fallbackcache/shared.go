package fallbackcache

import "net/http"

// shareable holds what judge said of a response to the rules of a shared cache,
// where this is one (RFC 9111, sections 3 and 3.5). Of what these allow, a Cache
// stores only what says public, and no answer that sets a cookie.
func (c *Cache) shareable(h http.Header, v verdict) verdict {
	if !c.Shared || !v.keep {
		return v
	}
	var public bool
	var shared delta
	for d := range directives(h["Cache-Control"]) {
		switch d.name {
		case "public":
			public = true
		case "private":
			names := members(d.value)
			if !d.quoted || len(names) == 0 {
				return verdict{remove: true} // the newest answer is for one user
			}
			v.without = append(v.without, names...)
		case "s-maxage":
			shared.add(d)
			v.fresh.neverStale = true // as proxy-revalidate (section 5.2.2.10)
		case "must-revalidate", "proxy-revalidate":
			v.fresh.neverStale = true
		}
	}
	if !public || len(h["Set-Cookie"]) > 0 || len(h["Set-Cookie2"]) > 0 {
		return verdict{fate: NotPublic}
	}
	if shared.set && !v.each {
		v.fresh.lifetime = shared.d // before max-age and Expires (section 4.2.1)
	}
	return v
}

// memoryOnly tells of an audience whose answers stay out of a folder that
// several users read: a keyed hash of its credentials would lie there beside the
// key, for anyone of them to guess at.
func (c *Cache) memoryOnly(who audience) bool { return c.Shared && who != audience{} }
