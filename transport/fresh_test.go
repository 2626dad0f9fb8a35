package transport

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// TestServeFresh: RFC 9111, section 4. What is fresh is given without a call,
// to those who did not ask for more, and until a change.
func TestServeFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := policies.Policy{Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, After: policies.None, ServeFresh: true}}}
		now := func() string { return time.Now().UTC().Format(http.TimeFormat) }
		serve := func(control, body string) answer {
			return answer{do: func(r *http.Request) (*http.Response, error) {
				time.Sleep(2 * time.Second)
				one := answer{status: 200, body: body, header: http.Header{"Cache-Control": {control}, "Date": {now()}}}
				return (&script{answers: []answer{one}}).RoundTrip(r)
			}}
		}
		tr, s := through(t, p, serve("max-age=60", "one"), serve("max-age=60", "two"), answer{status: 204},
			serve("max-age=60", "three"), serve("no-cache", "four"), serve("", "five"), serve("", "six"))
		calls := 0
		ask := func(method, control, want string, called bool, source Source) {
			t.Helper()
			var info Info
			req := request(t, method, nil)
			if control != "" {
				req.Header.Set("Cache-Control", control)
			}
			resp, err := tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info)))
			if err != nil {
				t.Fatal(err)
			}
			if called {
				calls++
			}
			if got := read(t, resp); got != want || s.count() != calls || info.Served != source {
				t.Fatalf("got %q from %q after %d calls, want %q from %q after %d; %v", got, info.Served, s.count(), want, source, calls, resp.Header)
			}
		}
		ask("GET", "", "one", true, FromUpstream)
		time.Sleep(30 * time.Second)
		ask("GET", "", "one", false, FromFresh)
		ask("HEAD", "", "", false, FromFresh)
		ask("GET", "max-age=60", "one", false, FromFresh)
		time.Sleep(28 * time.Second) // 60 s since it was asked for
		ask("GET", "", "two", true, FromUpstream)
		ask("GET", "", "two", false, FromFresh)
		ask("PUT", "", "", true, FromUpstream)
		ask("GET", "", "three", true, FromUpstream)
		ask("GET", "no-cache", "four", true, FromUpstream)
		ask("GET", "", "five", true, FromUpstream)
		ask("GET", "", "six", true, FromUpstream) // no stated lifetime: never fresh
	})
}
