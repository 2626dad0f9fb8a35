package fallbackcache

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// DefaultCredentials returns the request fields that tell users apart unless
// [Cache.Credentials] says otherwise: those that HTTP defines, those in which
// widespread APIs expect a key or token, and those in which proxies in front
// pass on who the user is. The slice is the caller's.
func DefaultCredentials() []string {
	return []string{
		"Authorization", "Cookie", "Proxy-Authorization",
		// Keys and tokens.
		"Api-Key", "Apikey", "X-Api-Key", "X-Apikey", "X-Api-Token", "X-Auth", "X-Auth-Key",
		"X-Auth-Token", "X-Access-Token", "X-Authorization", "X-Id-Token", "X-Token",
		"X-Session-Id", "X-Session-Token", "X-Csrf-Token", "X-Xsrf-Token",
		"X-Amz-Security-Token", "X-Goog-Api-Key", "X-Goog-User-Project",
		"Ocp-Apim-Subscription-Key", "X-Functions-Key", "X-Vault-Token", "X-Vault-Namespace",
		"X-Consul-Token", "X-Nomad-Token", "Private-Token", "Job-Token", "X-Shopify-Access-Token",
		"Dpop", "Signature", "X-Signature",
		// Who the user is, as a proxy in front says.
		"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Access-Token",
		"X-Forwarded-Preferred-Username", "X-Forwarded-Client-Cert",
		"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups",
		"X-Auth-Request-Access-Token", "X-Auth-Request-Preferred-Username",
		"Remote-User", "Remote-Groups", "X-Remote-User", "X-Remote-Group", "X-Webauth-User",
		"X-User", "X-User-Id", "X-Account-Id", "X-Customer-Id", "X-Tenant", "X-Tenant-Id",
		"X-Org-Id", "X-Organization-Id", "X-Scope-Orgid", "Stripe-Account",
		"X-Jwt-Assertion", "Cf-Access-Jwt-Assertion", "X-Goog-Iap-Jwt-Assertion",
		"X-Goog-Authenticated-User-Id", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Data",
		"X-Amzn-Oidc-Accesstoken", "X-Ms-Client-Principal", "X-Ms-Client-Principal-Id",
		"X-Client-Cert", "X-Ssl-Client-Cert", "Client-Cert", "Impersonate-User",
	}
}

// audience is who may see an answer: a keyed hash of credentials, partition
// and server asked. Zero is everyone without any of these. The secret is the
// Cache's own and random, so that the hash tells nothing about credentials to
// who reads the memory, and nobody can search for collisions beforehand.
type audience [sha256.Size]byte

// target is the target URI of a request (RFC 9111, section 2) as one string:
// scheme, effective host, path and query as sent. Neither scheme nor host may
// hold the NUL between the parts, so two URIs never make one key.
func target(req *http.Request) (uri string, ok bool) {
	key, ok := appendTarget(nil, req)
	return string(key), ok
}

func appendTarget(key []byte, req *http.Request) ([]byte, bool) {
	if req.URL == nil {
		return nil, false
	}
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	return appendKey(key, req.URL, host)
}

func uriKey(u *url.URL, host string) (string, bool) {
	key, ok := appendKey(nil, u, host)
	return string(key), ok
}

// appendKey is uriKey in a buffer of the caller's: a look that finds nothing
// need not allocate.
func appendKey(key []byte, u *url.URL, host string) ([]byte, bool) {
	scheme := strings.ToLower(u.Scheme)
	host = normalHost(scheme, host)
	if host == "" || strings.IndexByte(host, 0) >= 0 || strings.IndexByte(scheme, 0) >= 0 {
		return nil, false
	}
	key = append(key, scheme...)
	key = append(key, 0)
	key = append(key, host...)
	key = append(key, 0)
	if u.Opaque != "" {
		return append(key, u.RequestURI()...), true
	}
	// As url.URL.RequestURI writes it, which would join strings.
	if path := u.EscapedPath(); path != "" {
		key = append(key, path...)
	} else {
		key = append(key, '/')
	}
	if u.ForceQuery || u.RawQuery != "" {
		key = append(key, '?')
		key = append(key, u.RawQuery...)
	}
	return key, true
}

// normalHost lowers the case and takes off an empty or default port.
func normalHost(scheme, host string) string {
	host = strings.ToLower(host)
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 {
		port := host[colon+1:]
		if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
			return host[:colon]
		}
	}
	return host
}

// who tells the audience of a request whose canonical header is h.
func (c *Cache) who(req *http.Request, h http.Header) audience {
	var part string
	if c.Partition != nil {
		part = c.Partition(req)
	}
	// The server that is dialled, where the Host field names another: what
	// 10.0.0.1 says under a name is not what 10.0.0.2 says under it, and a
	// Host that came from outside must not put words into another's mouth.
	var dialled string
	if req.Host != "" && !strings.EqualFold(req.Host, req.URL.Host) {
		scheme := strings.ToLower(req.URL.Scheme)
		if d := normalHost(scheme, req.URL.Host); d != normalHost(scheme, req.Host) {
			dialled = cmp.Or(d, "\x00") // none is not the one that Host names
		}
	}
	names := c.credentials(h)
	if part == "" && dialled == "" && req.URL.User == nil && len(names) == 0 {
		return audience{}
	}

	mac, _ := c.hashes.Get().(hash.Hash)
	if mac == nil {
		mac = hmac.New(sha256.New, c.secret[:])
	}
	defer c.hashes.Put(mac)
	mac.Reset()
	// Every string goes in with its length before it, and every list with its
	// own, so that no two requests spell the same bytes.
	var text []byte
	add := func(s string) {
		text = binary.BigEndian.AppendUint64(text, uint64(len(s)))
		text = append(text, s...)
	}
	add(part)
	add(dialled)
	add(userinfo(req.URL))
	for _, name := range names {
		add(name)
		text = binary.BigEndian.AppendUint64(text, uint64(len(h[name])))
		for _, value := range h[name] {
			add(value)
		}
	}
	mac.Write(text)
	return audience(mac.Sum(nil))
}

// userinfo is that of a URL after an "@"; empty: none.
func userinfo(u *url.URL) string {
	if u.User == nil {
		return ""
	}
	return "@" + u.User.String()
}

// credentials lists the fields of h that tell users apart, sorted.
func (c *Cache) credentials(h http.Header) []string {
	var names []string
	for name, values := range h {
		if len(values) > 0 && c.fields[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sameSender tells whether the request that went out carried the credentials
// that the caller gave, and no others. A base that adds its own, as an OAuth
// client does in a field and others in the query, gets answers that this package
// cannot tell apart; so does one that asks for a part.
func (c *Cache) sameSender(req, sent *http.Request, h http.Header) bool {
	if sent == nil || sent == req {
		return true
	}
	if sent.URL != req.URL && (sent.URL == nil || sent.URL.RawQuery != req.URL.RawQuery || userinfo(sent.URL) != userinfo(req.URL)) {
		return false
	}
	out := canonical(sent.Header)
	names := c.credentials(h)
	if !slices.Equal(names, c.credentials(out)) || len(out["Range"]) > len(h["Range"]) {
		return false
	}
	for _, name := range names {
		if !slices.Equal(h[name], out[name]) {
			return false
		}
	}
	return isGet(sent) && isGet(req) || sent.Method == req.Method
}
