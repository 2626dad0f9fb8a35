package fallbackcache

import (
	"iter"
	"strings"
	"time"
)

// maxDelta is the largest delta-seconds: greater ones count as this (RFC 9111,
// section 1.2.2).
const maxDelta = 1 << 31

// directive is one member of a Cache-Control field. Quoted tells whether the
// value was a complete quoted-string, spaced whether there was space around the
// equals sign, which the grammar does not have (RFC 9111, section 5.2).
type directive struct {
	name, value              string
	hasValue, quoted, spaced bool
}

// directives walks the members of Cache-Control lines. Names come in lower
// case. Where a line is malformed it errs towards seeing more directives: what
// follows a quote that is never closed is read as if it were not quoted, and
// of a name like "no-store;x" the leading token counts. A hidden no-store
// would be worse than one too many.
func directives(lines []string) iter.Seq[directive] {
	return func(yield func(directive) bool) {
		for _, line := range lines {
			for line != "" {
				var d directive
				d, line = cutDirective(line)
				if d.name != "" && !yield(d) {
					return
				}
			}
		}
	}
}

// cutDirective reads one member and returns what follows its comma.
func cutDirective(line string) (d directive, rest string) {
	line = strings.TrimLeft(line, ", \t")
	end := 0
	for end < len(line) && isTokenByte(line[end]) {
		end++
	}
	d.name = strings.ToLower(line[:end])
	after := line[end:]
	line = strings.TrimLeft(after, " \t")
	if value, ok := strings.CutPrefix(line, "="); ok {
		line = strings.TrimLeft(value, " \t")
		d.hasValue, d.spaced = true, len(after)-1 != len(line)
		if value, after, ok := cutQuoted(line); ok {
			d.value, d.quoted = value, true
			junk, rest, _ := strings.Cut(after, ",")
			if strings.Trim(junk, " \t") != "" {
				d.quoted = false // "1"x is neither a token nor a quoted-string
				d.value += junk
			}
			return d, rest
		}
	}
	value, rest, _ := strings.Cut(line, ",")
	if d.hasValue {
		d.value = strings.TrimRight(value, " \t")
	}
	return d, rest
}

// cutQuoted takes a quoted-string off the front of s (RFC 9110, section
// 5.6.4).
func cutQuoted(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", s, false
	}
	escaped := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			value = s[1:i]
			if escaped {
				value = unescape(value)
			}
			return value, s[i+1:], true
		}
	}
	return "", s, false
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isTokenByte is tchar of RFC 9110, section 5.6.2.
func isTokenByte(b byte) bool { return tokenBytes[b] }

// tokenBytes is a table, because every response is read by it.
var tokenBytes = func() (table [256]bool) {
	for _, b := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		table[b] = true
	}
	return table
}()

// delta is a directive's delta-seconds. One that is malformed, or said twice
// with different values, is set and bad, and the rules then take the strictest
// reading (RFC 9111, section 4.2.1: the response is to be considered stale).
type delta struct {
	set, bad bool
	d        time.Duration
}

func (v *delta) add(d directive) {
	seconds, ok := parseDelta(d.value)
	switch {
	case !d.hasValue || d.spaced || !ok, v.set && v.d != seconds:
		v.bad = true
		v.d = 0
	case !v.bad:
		v.d = seconds
	}
	v.set = true
}

func parseDelta(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), maxDelta)
	}
	return time.Duration(n) * time.Second, true
}
