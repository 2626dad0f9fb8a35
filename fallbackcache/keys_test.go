package fallbackcache

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// written is a request as the fuzzer writes it: fields are lines of a text.
type written struct{ url, host, authorization, cookie, part, user string }

func (a written) request() *http.Request {
	u, err := url.Parse(a.url)
	if err != nil {
		return nil
	}
	if name, password, given := strings.Cut(a.user, ":"); given {
		u.User = url.UserPassword(name, password)
	} else if name != "" {
		u.User = url.User(name)
	}
	req := &http.Request{Method: "GET", URL: u, Host: a.host, Header: http.Header{"X-Part": {a.part}}}
	for name, text := range map[string]string{"Authorization": a.authorization, "Cookie": a.cookie} {
		if text != "" {
			req.Header[name] = strings.Split(text, "\n")
		}
	}
	return req
}

// moved is the request with letters moved from one of its texts to another, and
// their case changed: the high half of a byte says which one loses its last
// letter, the low half which one begins with it; above 5 it goes, and its case
// changes.
func (a written) moved(moves []byte) written {
	texts := []*string{&a.url, &a.host, &a.authorization, &a.cookie, &a.part, &a.user}
	for _, move := range moves {
		from, to := int(move>>4), int(move&15)
		letter := ""
		if from < len(texts) {
			if n := len(*texts[from]); n > 0 {
				letter, *texts[from] = (*texts[from])[n-1:], (*texts[from])[:n-1]
			}
		}
		if to < len(texts) {
			*texts[to] = letter + *texts[to]
			if from >= len(texts) {
				*texts[to] = strings.ToUpper(*texts[to])
			}
		}
	}
	return a
}

// spelt says in one unambiguous text what a request asks, where, and for whom.
func (a written) spelt(req *http.Request) string {
	scheme := strings.ToLower(req.URL.Scheme)
	plain := func(host string) string {
		host = strings.ToLower(host)
		host = strings.TrimSuffix(host, ":")
		switch scheme {
		case "http":
			host = strings.TrimSuffix(host, ":80")
		case "https":
			host = strings.TrimSuffix(host, ":443")
		}
		return host
	}
	named, dialled := plain(req.URL.Host), plain(req.URL.Host)
	if a.host != "" {
		named = plain(a.host)
	}
	user := "none"
	if req.URL.User != nil { // an empty one is sent as credentials too
		user = "is " + req.URL.User.String()
	}
	return fmt.Sprintf("%q %q %q %q %q %q %q %q", scheme, named, dialled, req.URL.RequestURI(), user, req.Header["Authorization"], req.Header["Cookie"], a.part)
}

// Two requests have one key if, and only if, they ask the same of the same
// server for the same user, whatever is in their URLs and fields; so have
// their files.
func FuzzKeys(f *testing.F) {
	c := &Cache{Partition: func(req *http.Request) string { return req.Header.Get("X-Part") }}
	c.ready()
	d := &disk{key: [32]byte{1}}
	f.Add("http://a.test/x?y", "", "alice", "", "", "", []byte{0x21})
	f.Add("http://a.test/x", "", "alice\nbob", "carol", "", "", []byte{0x24, 0x24})
	f.Add("http://a.test/x", "b.test", "", "", "", "", []byte{0x01, 0xf1})
	f.Add("http://a.test/x%2fy", "", "", "", "p", "", []byte{0x40})
	f.Add("http://alice@a.test", "A.test:80", "", "", "", "", []byte{0x11})
	f.Add("http:opaque?q", "a.test", "", "", "", "", []byte{0xf0})
	f.Add("https://a.test:443/", "", "", "a\n", "", "", []byte{0x34, 0x43})
	f.Add("http://a.test/", "", "s", "", "", "alice:", []byte{0x25})
	f.Add("http://a.test/", "", "", "", "", "alice:s", []byte{0x5f})
	f.Fuzz(func(t *testing.T, url, host, authorization, cookie, part, user string, moves []byte) {
		one := written{url, host, authorization, cookie, part, user}
		two := one.moved(moves)
		a, b := one.request(), two.request()
		if a == nil || b == nil {
			return
		}
		uriA, okA := target(a)
		uriB, okB := target(b)
		if !okA || !okB {
			return // never stored
		}
		whoA, whoB := c.who(a, a.Header), c.who(b, b.Header)
		same := uriA == uriB && whoA == whoB
		if want := one.spelt(a) == two.spelt(b); same != want {
			t.Errorf("one key: %v\n%s\n%s", same, one.spelt(a), two.spelt(b))
		}
		_, fileA := d.fileName(uriA, whoA)
		_, fileB := d.fileName(uriB, whoB)
		if (fileA == fileB) != same {
			t.Errorf("one file: %v, one key: %v\n%s\n%s", fileA == fileB, same, one.spelt(a), two.spelt(b))
		}
	})
}
