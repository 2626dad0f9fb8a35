package policies

import (
	"fmt"
	"mime"
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxHeaderValue = 8 << 10 // bytes, what servers commonly take as a whole
	maxPath        = 1 << 10 // bytes of a path prefix
	maxName        = 64      // characters of an upstream's name or a method
	maxHeaderName  = 128     // characters
)

// checkName judges the name of an upstream. Names become labels, paths and
// keys in shared memory, so they are plain.
func checkName(s string) (problem, want string) {
	const rule = "write 1 to 64 of a-z, 0-9, dot, dash and underscore"
	if s == "" {
		return "the upstream has an empty name", rule
	}
	if len(s) > maxName {
		return fmt.Sprintf("the name has %d characters", len(s)), rule
	}
	for i := range len(s) {
		if c := s[i]; !isLowerAlphanumeric(c) && c != '.' && c != '-' && c != '_' {
			if lower := strings.ToLower(s); lower != s {
				if problem, _ := checkName(lower); problem == "" {
					return "the name has capitals", "write " + lower
				}
			}
			return "the name " + quote(s) + " has a character that is not allowed", rule
		}
	}
	return "", ""
}

func isLowerAlphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// isToken reports whether s is a token of RFC 9110, section 5.6.2: what
// methods and header names are made of.
func isToken(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if !('a' <= c && c <= 'z') && !('0' <= s[i] && s[i] <= '9') && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return true
}

func checkMethod(s string) (problem, want string) {
	switch upper := strings.ToUpper(s); {
	case !isToken(s) || len(s) > maxName:
		return quote(s) + " is not a method", ""
	case upper != s:
		return quote(s) + " has small letters, and methods are compared with case", "write " + upper
	}
	return "", ""
}

func checkPath(s string) (problem, want string) {
	switch {
	case s[0] != '/':
		return quote(s) + " does not start with /", "write " + quote("/"+s)
	case len(s) > maxPath:
		return fmt.Sprintf("the path has %d bytes", len(s)), fmt.Sprintf("write at most %d", maxPath)
	case strings.ContainsAny(s, "?#"):
		return quote(s) + " has a query or a fragment", "write the path alone; queries are not compared"
	case strings.Contains(s, "*"):
		return quote(s) + " has a *", "write a prefix: /v1 matches everything below it"
	case strings.Contains(s, "%"):
		return quote(s) + " is escaped", "write the character itself; paths are compared unescaped"
	case strings.Contains(s, "//") || slices.ContainsFunc(strings.Split(s, "/"), func(segment string) bool { return segment == "." || segment == ".." }):
		return quote(s) + " has an empty or a dot segment", "write the path as requests have it"
	case !isClean(s, false):
		return quote(s) + " has a control character", ""
	}
	return "", ""
}

// ownHeaders are set by net/http or by us, or end the connection's meaning:
// a policy cannot.
var ownHeaders = []string{"Age", "Cache-Status", "Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func checkHeaderName(s string) (problem, want string) {
	switch {
	case !isToken(s) || len(s) > maxHeaderName:
		return quote(s) + " is not the name of a header", "write letters, digits and dashes, such as Idempotency-Key"
	case slices.Contains(ownHeaders, textproto.CanonicalMIMEHeaderKey(s)):
		return s + " is set by the transport itself", "choose another header"
	}
	return "", ""
}

func checkHeaderValue(s string) (problem, want string) {
	switch {
	case len(s) > maxHeaderValue:
		return fmt.Sprintf("the value has %d bytes", len(s)), fmt.Sprintf("write at most %d", maxHeaderValue)
	case !isClean(s, true):
		return quote(s) + " has a line break or a control character", "write one line of text"
	case strings.Trim(s, " \t") != s:
		return quote(s) + " begins or ends with a space", "write it without"
	}
	return "", ""
}

// isClean reports whether s is valid UTF-8 without control characters.
func isClean(s string, tab bool) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 0x20 || r == 0x7f) && !(tab && r == '\t')
	})
}

func checkMediaType(s string) (problem, want string) {
	if problem, want = checkHeaderValue(s); problem != "" {
		return problem, want
	}
	if kind, _, err := mime.ParseMediaType(s); err != nil || !strings.Contains(kind, "/") {
		return quote(s) + " is not a media type", ""
	}
	return "", ""
}

func checkBody(s string) (problem, want string) {
	if len(s) > MaxBody {
		return fmt.Sprintf("the body has %d bytes", len(s)), fmt.Sprintf("write at most %d", MaxBody)
	}
	if !utf8.ValidString(s) {
		return "the body is not UTF-8", "write text"
	}
	return "", ""
}
