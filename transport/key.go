package transport

import (
	"maps"
	"net/http"
	"slices"

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
	if p != nil && h.Get(p.Header) != "" {
		return true
	}
	return has(h, idempotency.Header) || has(h, "X-Idempotency-Key")
}

func has(h http.Header, field string) bool { return len(h[field]) > 0 && h[field][0] != "" }
