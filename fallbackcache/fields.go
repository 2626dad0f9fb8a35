package fallbackcache

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// field is one line of a stored header, with its name canonical.
type field struct{ name, value string }

// canonical returns h with its names in canonical form: h itself where they
// are already, since a caller may have written them into the map as he liked,
// and net/http sends them so.
func canonical(h http.Header) http.Header {
	for name := range h {
		if !isCanonical(name) {
			return rename(h)
		}
	}
	return h
}

// isCanonical tells whether http.CanonicalHeaderKey leaves a name as it is. Of
// names that are no tokens it may say no although it does.
func isCanonical(name string) bool {
	before := byte('-')
	for i := range len(name) {
		b := name[i]
		if before == '-' {
			if b-'a' <= 'z'-'a' {
				return false
			}
		} else if b-'A' <= 'Z'-'A' {
			return false
		}
		before = b
	}
	return true
}

func rename(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) { // sorted, so that merged values have one order
		key := http.CanonicalHeaderKey(name)
		out[key] = append(out[key], h[name]...)
	}
	return out
}

// notReplayed are the fields that belong to one connection or one exchange
// (RFC 9110, section 7.6.1; RFC 9111, section 3.1), and those that are
// computed anew for each answer. Set-Cookie is among them by decision: an old
// cookie must not overwrite a newer session.
var notReplayed = map[string]bool{
	"Connection":                true,
	"Keep-Alive":                true,
	"Proxy-Connection":          true,
	"Te":                        true,
	"Trailer":                   true,
	"Transfer-Encoding":         true,
	"Upgrade":                   true,
	"Proxy-Authenticate":        true,
	"Proxy-Authorization":       true,
	"Proxy-Authentication-Info": true,
	"Authentication-Info":       true,
	"Set-Cookie":                true,
	"Set-Cookie2":               true,
	"Age":                       true,
	"Content-Length":            true,
}

// replayable returns the lines of h that a stored answer carries: not those
// of notReplayed, not those that Connection names, and not those in without.
// Lines of one name stand together, in their order.
func replayable(h http.Header, without []string) []field {
	gone := hopByHop(h)
	if gone == nil && len(without) > 0 {
		gone = make(map[string]bool, len(without))
	}
	for _, name := range without {
		gone[http.CanonicalHeaderKey(name)] = true
	}
	lines := 0
	for _, values := range h {
		lines += len(values)
	}
	fields := make([]field, 0, lines+2) // and Content-Length, Date
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if notReplayed[name] || gone[name] {
			continue
		}
		for _, value := range h[name] {
			fields = append(fields, field{name, value})
		}
	}
	return fields
}

// hopByHop are the canonical names that Connection has; nil: none. It is a set,
// since who sends a thousand of them may send a thousand fields.
func hopByHop(h http.Header) (names map[string]bool) {
	for _, line := range h["Connection"] {
		for _, name := range members(line) {
			if names == nil {
				names = map[string]bool{}
			}
			names[http.CanonicalHeaderKey(name)] = true
		}
	}
	return names
}

// members splits a comma-separated list of names.
func members(line string) []string {
	var out []string
	for member := range strings.SplitSeq(line, ",") {
		if member = strings.Trim(member, " \t"); member != "" {
			out = append(out, member)
		}
	}
	return out
}

// date reads a field that holds one date.
func date(h http.Header, name string) (time.Time, bool) {
	if values := h[name]; len(values) == 1 {
		return parseDate(values[0])
	}
	return time.Time{}, false
}

// The three forms of a date (RFC 9110, section 5.6.7).
var dateForms = [...]string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC}

// parseDate reads a date in one of its forms, in any case (RFC 9111, section 4.2)
// and else to the letter: package time lets pass another zone, weekday or number of
// digits, and what is no date must count as one that is past (section 5.3).
func parseDate(s string) (time.Time, bool) {
	if zone := len(s) - len("GMT"); zone > 0 && s[zone:] != "GMT" && strings.EqualFold(s[zone:], "GMT") {
		s = s[:zone] + "GMT"
	}
	for _, form := range dateForms {
		if t, err := time.Parse(form, s); err == nil && strings.EqualFold(t.Format(form), s) {
			return t, true
		}
	}
	return time.Time{}, false
}

// first returns the field's first line, or nothing.
func first(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
