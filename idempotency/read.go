package idempotency

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strings"
)

// errNoKey says that a request has no key.
var errNoKey = errors.New("idempotency: the request has no key")

// read takes the key out of a request. It fails with errNoKey if there is
// none, and says what is wrong with one that is malformed: one field, one
// value, quoted as a Structured Field string (RFC 9651; parameters are
// ignored) or bare, of 1 to limit printable ASCII characters.
func read(h http.Header, field string, limit int) (string, error) {
	values := h[http.CanonicalHeaderKey(field)]
	switch {
	case len(values) == 0:
		return "", errNoKey
	case len(values) > 1:
		return "", fmt.Errorf("the field is there %d times, want once", len(values))
	case len(values[0]) > 2*limit+256: // all escaped, and room for parameters
		return "", fmt.Errorf("the field has %d bytes, a key has at most %d", len(values[0]), limit)
	}
	value := strings.Trim(values[0], " \t")
	key := unquote(value)
	quoted := strings.HasPrefix(value, `"`)
	switch {
	case key == "":
		return "", errors.New("the key is empty")
	case len(key) > limit:
		return "", fmt.Errorf("the key has %d bytes, at most %d are allowed", len(key), limit)
	case quoted && key == value: // a string is shorter than its quoted form
		return "", errors.New(`the quoted key is no Structured Field string: write "key", with \" and \\ for these two characters within`)
	}
	for i := range len(key) {
		if b := key[i]; b < 0x20 || b > 0x7e {
			return "", fmt.Errorf("the key has byte 0x%02x at %d; only printable ASCII is allowed", b, i)
		} else if !quoted && (b == ' ' || b == '"' || b == ',' || b == ';') {
			return "", fmt.Errorf("the key has %q at %d; such a key must be quoted", b, i)
		}
	}
	return key, nil
}

// identify hashes scope and key. Each part is led by its length, so that no
// two pairs read alike.
func identify(scope, key string) ID {
	sum := sha256.New()
	part(sum, "resagent idempotency 1")
	part(sum, scope)
	part(sum, key)
	return ID(sum.Sum(nil))
}

// fingerprint hashes what must be the same in a repetition. The target is as
// the client sent it: what a mux strips from the path still counts.
func fingerprint(r *http.Request, fields []string, body []byte) Fingerprint {
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") {
		target = r.URL.RequestURI()
	}
	sum := sha256.New()
	part(sum, r.Method)
	part(sum, target)
	for _, field := range fields {
		values := r.Header[http.CanonicalHeaderKey(field)]
		part(sum, fmt.Sprint(len(values)))
		for _, value := range values {
			part(sum, value)
		}
	}
	sum.Write(body)
	return Fingerprint(sum.Sum(nil))
}

func part(sum hash.Hash, text string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(text)))
	sum.Write(n[:])
	sum.Write([]byte(text))
}
