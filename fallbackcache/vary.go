package fallbackcache

import (
	"net/http"
	"slices"
	"strings"
)

// varied is one request field that an answer depends on, with the value it
// had. Absent differs from empty (RFC 9111, section 4.1).
type varied struct {
	name, value string
	present     bool
	secret      bool // a credential: its value is part of the audience
}

// maxVary bounds the fields that an answer may depend on: each look compares them.
const maxVary = 100

// varyNames reads Vary: the canonical names, sorted and each once. Ok is false
// where nothing can ever match: "*", what is not a list of names, or of too many.
func varyNames(lines []string) (names []string, ok bool) {
	for _, line := range lines {
		for _, name := range members(line) {
			if name == "*" || !isToken(name) || len(names) == maxVary {
				return nil, false
			}
			names = append(names, http.CanonicalHeaderKey(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), true
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// selecting takes the named fields out of a request's header, which must have
// canonical names. Of credentials the value is left out: the audience has
// told those with another apart, and they are not to lie in a file.
func selecting(names []string, h http.Header, credentials map[string]bool) []varied {
	if len(names) == 0 {
		return nil
	}
	out := make([]varied, len(names))
	for i, name := range names {
		value, present := combined(h[name])
		if credentials[name] {
			out[i] = varied{name: name, present: present, secret: true}
			continue
		}
		// Cloned, since a caller's string may be a piece of something large.
		out[i] = varied{name: name, value: strings.Clone(value), present: present}
	}
	return out
}

// combined joins a field's lines as RFC 9110, section 5.3 permits. A name
// without any line is not sent, so it is absent.
func combined(lines []string) (value string, present bool) {
	switch len(lines) {
	case 0:
		return "", false
	case 1:
		return strings.Trim(lines[0], " \t"), true
	}
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = strings.Trim(line, " \t")
	}
	return strings.Join(trimmed, ", "), true
}

// fits tells whether a request with header h selects what was stored with
// these values.
func fits(vary []varied, h http.Header) bool {
	for _, v := range vary {
		value, present := combined(h[v.name])
		if present != v.present || value != v.value && !v.secret {
			return false
		}
	}
	return true
}
