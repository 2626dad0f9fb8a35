package fallbackcache

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// exchange is a response in words, not in a header: the reference below knows
// nothing of how the package reads one.
type exchange struct {
	status     int
	directives []string
	expires    bool // in an hour
	varies     string
	asked      string // Cache-Control of the request
}

// mayBeGiven is the reference: whether the answer is stored, and given at once
// to the same request by one who takes stale answers (RFC 9111, section 3 and
// 4; RFC 5861, section 4).
func (x exchange) mayBeGiven() bool {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(x.directives, n) })
	}
	if x.asked == "no-store" || x.varies == "*" || has("no-cache") ||
		has("no-store") && (!has("must-understand") || x.status == 299) { // RFC 9111, section 5.2.2.3
		return false
	}
	switch x.status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414: // RFC 9110, section 15.1
	case 299, 302, 303, 307, 451:
		if !x.expires && !has("max-age=60", "max-age=0", "public", "private") || x.status == 299 && has("must-understand") {
			return false
		}
	default: // failures, parts, refusals
		return false
	}
	stale := !has("max-age=60") && !x.expires || has("max-age=0")
	return !stale || !has("must-revalidate", "proxy-revalidate", "s-maxage=60", "stale-if-error=0")
}

// Whatever combination of status, directives, Expires and Vary comes, it is
// stored and given exactly as the reference says.
func TestStoringAgainstReference(t *testing.T) {
	words := []string{"no-store", "no-cache", "max-age=60", "max-age=0", "s-maxage=60", "public", "private",
		"must-revalidate", "proxy-revalidate", "must-understand", "stale-if-error=0", "stale-if-error=60", "immutable", "x=y"}
	rapid.Check(t, func(rt *rapid.T) {
		x := exchange{
			status: rapid.SampledFrom([]int{200, 200, 200, 203, 204, 206, 299, 300, 301, 302, 303, 307, 308,
				400, 401, 403, 404, 405, 408, 410, 414, 429, 451, 500, 501, 502, 503, 504}).Draw(rt, "status"),
			directives: rapid.SliceOfNDistinct(rapid.SampledFrom(words), 0, 4, rapid.ID[string]).Draw(rt, "directives"),
			expires:    rapid.Bool().Draw(rt, "expires"),
			varies:     rapid.SampledFrom([]string{"", "Accept", "*"}).Draw(rt, "vary"),
			asked:      rapid.SampledFrom([]string{"", "", "no-store"}).Draw(rt, "asked"),
		}
		if slices.Contains(x.directives, "max-age=60") && slices.Contains(x.directives, "max-age=0") {
			return // one said twice unlike has a table of its own
		}
		if slices.Contains(x.directives, "stale-if-error=0") && slices.Contains(x.directives, "stale-if-error=60") {
			return
		}
		var said, first []string
		for _, d := range x.directives { // on one line or several, in any case
			if rapid.Bool().Draw(rt, "capitals") {
				d = strings.ToUpper(d)
			}
			said = append(said, "Cache-Control: "+d)
		}
		if rapid.Bool().Draw(rt, "one line") && len(said) > 0 {
			said = []string{"Cache-Control: " + strings.ReplaceAll(strings.Join(said, ", "), "Cache-Control: ", "")}
		}
		explicit := slices.ContainsFunc(x.directives, func(d string) bool { return strings.HasPrefix(d, "max-age") })
		if explicit {
			x.expires = false // max-age wins; said here so that the reference need not know
		}
		if x.expires {
			said = append(said, "Expires: "+start.Add(time.Hour).Format("Mon, 02 Jan 2006 15:04:05 GMT"))
		}
		if x.varies != "" {
			said = append(said, "Vary: "+x.varies)
		}
		if x.asked != "" {
			first = append(first, "Cache-Control: "+x.asked)
		}
		cache := new(Cache)
		body := "good"
		if x.status == 204 {
			body = ""
		}
		keep(t, cache, start, get(t, page, first...), x.status, body, said...)
		_, given := cache.Find(get(t, page), time.Hour, start)
		if want := x.mayBeGiven(); given != want {
			rt.Fatalf("%+v with %q: given %v, want %v", x, said, given, want)
		}
	})
}

// What an origin may send at most it must not make costly: its lists of names are
// looked up, not gone through for each field. That took 7 s and more here.
func TestManyNames(t *testing.T) {
	const many = 60_000
	fields := []string{"Cache-Control: max-age=60"}
	for i := range many {
		fields = append(fields, "Y-"+strconv.Itoa(i)+": 1")
	}
	for name, line := range map[string]string{"Connection": "Connection: " + names(many), "no-cache": `Cache-Control: no-cache="` + names(many) + `"`} {
		cache := new(Cache)
		began := time.Now()
		keep(t, cache, start, get(t, page), 200, "good", append(fields, line)...)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: to store it took %v", name, took)
		}
		if got := found(t, cache, start, time.Hour, get(t, page)); got != "good" {
			t.Errorf("%s: found %q", name, got)
		}
	}
}
