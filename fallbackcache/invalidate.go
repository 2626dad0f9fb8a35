package fallbackcache

import (
	"net/http"
	"net/url"
	"strings"
)

// Invalidate is told of the response to a request whose method is not safe,
// or not known. If it is no error, what it may have changed is dropped for
// all users: the target URI, and those that Location and Content-Location
// name, where they are of the same origin (RFC 9111, section 4.4). Responses
// to safe methods, errors and a nil resp change nothing.
func (c *Cache) Invalidate(req *http.Request, resp *http.Response) {
	if safe[req.Method] || resp == nil || resp.StatusCode < 200 || resp.StatusCode > 399 {
		return
	}
	uri, ok := target(req)
	if !ok {
		return
	}
	c.ready()
	c.drop(uri)
	h := canonical(resp.Header)
	for _, name := range [...]string{"Location", "Content-Location"} {
		for _, line := range h[name] {
			if uri, ok := named(req, line); ok {
				c.drop(uri)
			}
		}
	}
}

// named resolves a reference against the target URI, and refuses those of
// another origin: a server may speak only for itself.
func named(req *http.Request, reference string) (uri string, ok bool) {
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	base := *req.URL
	base.Host = host
	u, err := base.Parse(reference)
	if err != nil || u.Opaque != "" {
		return "", false
	}
	scheme := strings.ToLower(base.Scheme)
	if !strings.EqualFold(u.Scheme, scheme) || normalHost(scheme, u.Host) != normalHost(scheme, host) {
		return "", false
	}
	return uriKey(&url.URL{Scheme: u.Scheme, Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery}, u.Host)
}

// safe are the methods that change nothing, by the IANA registry of methods.
var safe = map[string]bool{
	"":                 true, // GET, for a client
	http.MethodGet:     true,
	http.MethodHead:    true,
	http.MethodOptions: true,
	http.MethodTrace:   true,
	"PROPFIND":         true,
	"QUERY":            true,
	"REPORT":           true,
	"SEARCH":           true,
}
