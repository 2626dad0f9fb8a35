package transport

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/policies"
)

// mintKey puts an idempotency key on the request if its policy says so: one
// for all attempts, and never in place of the caller's.
func (c *call) mintKey() {
	p := c.rules.Idempotency
	if p == nil || !slices.Contains(p.Methods, c.req.Method) || keyed(c.req.Header, p) {
		return
	}
	c.header = maps.Clone(c.req.Header)
	idempotency.Set(c.header, p.Header, p.Bare)
}

// keyed says whether a request carries an idempotency key: in its policy's
// field, or in one of those by which net/http too knows that it may repeat it.
func keyed(h http.Header, p *policies.Idempotency) bool {
	if p != nil && has(h, http.CanonicalHeaderKey(p.Header)) {
		return true
	}
	return has(h, idempotency.Header) || has(h, "X-Idempotency-Key")
}

func has(h http.Header, field string) bool { return value(h, field) != "" }

// value is a field's first value, field in its canonical form. What a caller
// has written straight into the map, in whatever letters, is sent as it is and
// means the same to the upstream.
func value(h http.Header, field string) string {
	if v := h[field]; len(v) > 0 {
		return v[0]
	}
	for k, v := range h {
		if len(k) == len(field) && len(v) > 0 && strings.EqualFold(k, field) {
			return v[0]
		}
	}
	return ""
}
