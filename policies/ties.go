package policies

import (
	"strconv"
	"strings"
)

// matchKey is a match in the form in which two tie: one method at a time, ""
// for all of them.
type matchKey struct {
	host   hostPattern
	path   string
	method string
}

type matchOwner struct{ path, upstream string }

func (c *checker) ties(upstream string, matches []Match) {
	for i, match := range matches {
		host, problem, _ := parseHost(match.Host)
		if problem != "" || match.Path != "" && match.Path[0] != '/' {
			continue
		}
		path := upstream + ".match[" + strconv.Itoa(i) + "]"
		for _, method := range methodsOf(match) {
			key := matchKey{host, trimPath(match.Path), method}
			first, taken := c.matches[key]
			if !taken {
				c.matches[key] = matchOwner{path, upstream}
				continue
			}
			if first.path == path {
				continue // a method written twice is reported as that
			}
			problem, want := "ties with "+first.path, "change the host, the path or the methods of one of the two"
			if first.upstream == upstream {
				problem, want = "repeats "+first.path, "leave one of the two out"
			}
			if at := c.at(first.path); at.Line > 0 {
				problem += " (" + at.String() + ")"
			}
			c.fail(path, problem, want, path)
			break
		}
	}
}

// methodsOf gives the methods under which a match is found.
func methodsOf(m Match) []string {
	if len(m.Methods) == 0 {
		return []string{""}
	}
	return m.Methods
}

// trimPath makes "/v1/" and "/v1" one, and "" of "/".
func trimPath(path string) string { return strings.TrimRight(path, "/") }
