package transport

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/resagent/resagent/policies"
)

type attemptKey struct{}

// Propagated gives next the attempt number that requests carry in the named
// header: calls it makes with the request's context are neither retried nor
// hedged if the request itself is a retry, and tell their own upstreams so. So three layers
// of three attempts each make 7 calls at the bottom and not 27. A header that
// is missing, or no number above 1, changes nothing.
func Propagated(header string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := attemptNumber(r.Header.Get(header)); n > 1 {
			r = r.WithContext(context.WithValue(r.Context(), attemptKey{}, n))
		}
		next.ServeHTTP(w, r)
	})
}

// attemptNumber reads the header's value; 1 where it says nothing.
func attemptNumber(s string) int {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil && n > 1 {
		return int(n)
	}
	return 1
}

// above is the number of the attempt that this call is part of: of the request
// that a server here works on, or of one that is passed on with its header.
func (c *call) above() int {
	n, _ := c.ctx.Value(attemptKey{}).(int)
	if p := c.rules.Propagation; p != nil && p.AttemptHeader != "" {
		n = max(n, attemptNumber(value(c.header, http.CanonicalHeaderKey(p.AttemptHeader))))
	}
	return max(1, n)
}

// stamped is the header of the next attempt: h itself, or a copy that tells the
// attempt's number and the time that is left.
func (c *call) stamped(h http.Header) http.Header {
	p := c.rules.Propagation
	if p == nil {
		return h
	}
	h = h.Clone()
	if p.AttemptHeader != "" {
		n := c.above() + int(c.attempts.Load())
		h.Set(p.AttemptHeader, strconv.Itoa(n))
	}
	if p.DeadlineHeader != "" && !has(h, http.CanonicalHeaderKey(p.DeadlineHeader)) {
		left, ok := c.left()
		if t := c.rules.Timeout; t != nil && t.Attempt > 0 && (!ok || t.Attempt < left) {
			left, ok = t.Attempt, true
		}
		if ok {
			h.Set(p.DeadlineHeader, deadline(max(0, left), p.DeadlineUnit))
		}
	}
	return h
}

func deadline(left time.Duration, unit policies.DeadlineUnit) string {
	ms := left.Milliseconds()
	if unit == policies.UnitSeconds {
		return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64)
	}
	return strconv.FormatInt(ms, 10)
}
