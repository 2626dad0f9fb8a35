package idempotency

import (
	"net/http"
	"strings"
)

const (
	// Header is the request field that carries the key, unless the server
	// wants another.
	Header = "Idempotency-Key"
	// ReplayedHeader is the response field with which a server marks a stored
	// answer, with the value "true".
	ReplayedHeader = "Idempotency-Replayed"
)

// Set sees to it that h has a key in the given field (empty: [Header]). A key
// of the caller's is left as it is and returned, without the quotes of a
// Structured Field string (RFC 9651). Where there is none, a new one is minted
// and written, quoted as the IETF draft wants it, or bare for servers that
// take the quotes for a part of the key.
//
// The field counts as the caller's as soon as it is in the map, in any
// spelling and with any value. Present but empty, it is the caller's word that
// this request goes without a key: nothing is written, and key is "". (With no
// values at all, net/http takes it as a sign that the request may be replayed,
// and sends nothing.)
//
// Set changes h, which must not be nil, nor used by others meanwhile: for a
// RoundTripper, a clone of the caller's.
func Set(h http.Header, field string, bare bool) (key string, minted bool) {
	if field == "" {
		field = Header
	}
	if values, ok := lookup(h, field); ok {
		if len(values) == 0 {
			return "", false
		}
		return unquote(values[0]), false
	}
	key = NewKey()
	if bare {
		h.Set(field, key)
	} else {
		h.Set(field, `"`+key+`"`)
	}
	return key, true
}

// lookup finds a field in whatever case its name was written into the map.
func lookup(h http.Header, field string) (values []string, ok bool) {
	if values, ok = h[http.CanonicalHeaderKey(field)]; ok {
		return values, true
	}
	for name, values := range h {
		if strings.EqualFold(name, field) {
			return values, true
		}
	}
	return nil, false
}

// unquote takes the key out of a Structured Field string with its parameters.
// What is not one is a bare key, and stays whole.
func unquote(value string) string {
	value = strings.Trim(value, " \t")
	if !strings.HasPrefix(value, `"`) {
		return value
	}
	var key strings.Builder
	for i := 1; i < len(value); i++ {
		switch b := value[i]; {
		case b == '"':
			if rest := strings.TrimLeft(value[i+1:], " "); rest == "" || rest[0] == ';' {
				return key.String()
			}
			return value
		case b == '\\':
			i++
			if i == len(value) || value[i] != '"' && value[i] != '\\' {
				return value
			}
			key.WriteByte(value[i])
		case b < 0x20 || b > 0x7e:
			return value
		default:
			key.WriteByte(b)
		}
	}
	return value
}

// Replayed tells whether the server marked resp as the stored answer of an
// earlier request with the same key: with [ReplayedHeader], or with Stripe's
// Idempotent-Replayed. Such an answer is final: a retry would bring it again.
// A nil resp is none.
func Replayed(resp *http.Response) bool {
	if resp == nil {
		return false
	}
	for _, field := range [...]string{ReplayedHeader, "Idempotent-Replayed"} {
		switch value := resp.Header.Get(field); {
		case strings.EqualFold(value, "true"), value == "?1", value == "1":
			return true
		}
	}
	return false
}
