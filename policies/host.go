package policies

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxHost is the longest name the DNS has. A longer one is matched by "*"
// alone.
const maxHost = 253

// hostPattern is the host of a [Match], in the one form in which hosts are
// compared: small letters, no final dot, an IPv6 address as netip writes it
// and without brackets.
type hostPattern struct {
	wildcard bool   // "*.name", or "*" where name is empty
	name     string // exact, or the suffix without "*."
	port     uint16 // 0: any
}

// parseHost reads the host of a match.
func parseHost(s string) (p hostPattern, problem, want string) {
	host, port := s, ""
	bracketed := strings.HasPrefix(s, "[")
	if bracketed {
		inside, rest, closed := strings.Cut(s[1:], "]")
		address, err := netip.ParseAddr(inside)
		if !closed || err != nil || !address.Is6() || rest != "" && rest[0] != ':' {
			return p, quote(s) + " is not an IPv6 address in brackets", `write it as in "[::1]" or "[::1]:8080"`
		}
		p.name, host, port = address.String(), "", rest
	} else if strings.Count(s, ":") > 1 {
		if address, err := netip.ParseAddr(s); err == nil {
			return p, quote(s) + " is an IPv6 address without brackets", fmt.Sprintf(`write "[%s]"`, address)
		}
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host, port = host[:i], host[i:]
	}
	if strings.Contains(s, "/") {
		return p, quote(s) + " is more than a host", "write the host alone, and the rest as path"
	}
	if port != "" {
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil || n == 0 || !isDigits(port[1:]) {
			return p, quote(port[1:]) + " is not a port", "write a number from 1 to 65535, or leave it out for any port"
		}
		p.port = uint16(n)
	}
	if bracketed {
		return p, "", ""
	}
	if host == "*" {
		p.wildcard = true
		return p, "", ""
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	name, p.wildcard = strings.CutPrefix(name, "*.")
	if strings.Contains(name, "*") {
		return p, quote(s) + " has a * that is not a whole first label", `write "*.example.com"`
	}
	if problem := checkLabels(name); problem != "" {
		want := ""
		if strings.ContainsFunc(name, func(r rune) bool { return r > 0x7f }) {
			want = "write the name as it is on the wire, beginning with xn--"
		}
		return p, quote(s) + problem, want
	}
	p.name = name
	return p, "", ""
}

// checkLabels judges a host name in small letters.
func checkLabels(name string) (problem string) {
	if len(name) > maxHost {
		return " is longer than a host name can be"
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return " has an empty label"
		}
		if len(label) > 63 {
			return " has a label of more than 63 characters"
		}
		for i := range len(label) {
			if c := label[i]; !isLowerAlphanumeric(c) && c != '-' && c != '_' {
				return " has a character that no host name has"
			}
		}
	}
	return ""
}

func checkHost(s string) (problem, want string) {
	_, problem, want = parseHost(s)
	return problem, want
}

// hostOf gives the host of u as it is written, without brackets and final dot,
// and its port: the one written, else the scheme's, else 0. Plain: it is in the
// form of a [hostPattern]'s name. A host that no name of a pattern can equal
// comes out empty.
func hostOf(u *url.URL) (host string, port uint16, plain bool) {
	host, digits, address := u.Host, "", false
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return "", 0, true
		}
		host, digits, address = host[1:end], strings.TrimPrefix(host[end+1:], ":"), true
	} else if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host, digits = host[:i], host[i+1:]
	}
	port = portOf(digits, u.Scheme)
	host = strings.TrimSuffix(host, ".")
	if len(host) > maxHost {
		return "", port, true
	}
	return host, port, !address && isLower(host)
}

// appendName appends a host that is not plain to b in the form of a name.
func appendName(b []byte, host string, u *url.URL) []byte {
	if strings.HasPrefix(u.Host, "[") {
		if parsed, err := netip.ParseAddr(host); err == nil {
			return parsed.AppendTo(b)
		}
	}
	for i := range len(host) {
		c := host[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// isLower says whether there is no capital letter.
func isLower(s string) bool {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

func portOf(digits, scheme string) uint16 {
	if digits == "" {
		switch scheme {
		case "http", "ws":
			return 80
		case "https", "wss":
			return 443
		}
		return 0
	}
	n := 0
	for i := range len(digits) {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0
		}
		if n = n*10 + int(c-'0'); n > 1<<16-1 {
			return 0
		}
	}
	return uint16(n)
}
