package contract

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

var redirectPoints = []Point{
	{Name: "no redirect is followed, whatever its Location", Heavy: true, Test: redirects},
	{Name: "307 and 308 leak nothing", Closes: true, Test: keptMethod},
}

// redirects: a 3xx is the caller's, with a good, a malformed or no Location.
func redirects(t *T) {
	for _, code := range []int{300, 301, 302, 303, 304, 305, 307, 308} {
		for _, to := range []string{"", "?to=/echo", "?to=http://%25zz/", "?to=%3A%3A", "?to=", "?to=" + t.up.tls + "/elsewhere"} {
			for _, method := range []string{"GET", "POST"} {
				t.same(fmt.Sprintf("%s, %d%s", method, code, to), func(rt http.RoundTripper, say func(string, ...any)) {
					id := t.up.id()
					target := fmt.Sprintf("%s/status?code=%d&id=%s", t.up.url, code, id)
					if loc, ok := strings.CutPrefix(to, "?to="); ok {
						target += "&to=" + loc
					}
					req := t.request(method, target, nil)
					resp, err := t.do(rt, req)
					if t.o.Apart && err == nil { // the rest counts where responses are looked at
						say("status %q, Location %q", resp.Status, resp.Header["Location"])
						resp.Body.Close()
					} else {
						t.describe(resp, err, say)
					}
					say("%d requests came", t.up.requests(id))
				})
			}
		}
	}
}

// keptMethod: where the body would have to be sent again, it is not even asked
// for.
func keptMethod(t *T) {
	rt := t.wrap(t.base())
	for _, code := range []int{307, 308} {
		for _, to := range []string{"/echo", "http://%zz/", ""} {
			body := t.body(fmt.Sprintf("%d to %q", code, to), strings.NewReader("body"))
			req := t.request("POST", fmt.Sprintf("%s/status?code=%d&to=%s", t.up.url, code, url.QueryEscape(to)), body)
			fetched := 0
			req.GetBody = func() (io.ReadCloser, error) {
				fetched++
				return t.body(body.what+", from GetBody", strings.NewReader("body")), nil
			}
			resp, err := t.do(rt, req)
			if err != nil {
				t.Errorf("%s: %v", body.what, err)
				continue
			}
			io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != code || resp.Header.Get("Location") != to {
				t.Errorf("%s: got %d to %q", body.what, resp.StatusCode, resp.Header.Get("Location"))
			}
			if fetched != 0 {
				t.Errorf("%s: GetBody was called %d times", body.what, fetched)
			}
		}
	}
}
