package transport

import (
	"errors"
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

// stored dates an answer by the bubble's clock, and gives it a tag.
func stored(control, body string) answer {
	return answer{do: func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Cache-Control": {control}, "Etag": {`"` + body + `"`}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}
		return (&script{answers: []answer{{status: 200, body: body, header: h}}}).RoundTrip(r)
	}}
}

// freshOnly is serve_fresh without a window of the operator's.
func freshOnly() policies.Policy {
	return once(policies.Policy{Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: policies.None, ServeFresh: true}}})
}

// TestOriginsWindow: RFC 5861, section 4. With max_stale: none an answer is
// given on a failure as long as the origin says, and no longer.
func TestOriginsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, freshOnly(), stored("max-age=60, stale-if-error=60", "one"), answer{err: errReset}, answer{status: 503, body: "no"})
		for _, step := range []struct {
			after  time.Duration
			status int
			want   string
		}{{0, 200, "one"}, {30 * time.Second, 200, "one"}, {60 * time.Second, 200, "one"}, {31 * time.Second, 503, "no"}} {
			time.Sleep(step.after)
			resp, err := tr.RoundTrip(request(t, "GET", nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != step.want || resp.StatusCode != step.status {
				t.Errorf("%v later: %d %q, want %d %q", step.after, resp.StatusCode, got, step.status, step.want)
			}
		}
	})
}

// TestAskedThoughNotToBeGiven: RFC 9111, sections 4.3.1 and 5.2.2.2. What must
// be revalidated is asked about, and not given when nobody answers.
func TestAskedThoughNotToBeGiven(t *testing.T) {
	for name, p := range map[string]policies.Policy{"none": freshOnly(), "an hour": once(stale(time.Second))} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, p, stored("max-age=60, must-revalidate", "one"), answer{status: 304, header: http.Header{"Etag": {`"one"`}}}, answer{err: errReset})
				for _, want := range []string{"one", "one", ""} {
					resp, err := tr.RoundTrip(request(t, "GET", nil))
					if want == "" {
						if !errors.Is(err, errReset) {
							t.Errorf("got %v, %v; want the error", resp, err)
						}
						break
					}
					if err != nil || read(t, resp) != want {
						t.Fatalf("got %v, %v, want %q", resp, err, want)
					}
					time.Sleep(time.Minute)
				}
				if got := s.calls[1].header.Get("If-None-Match"); got != `"one"` {
					t.Errorf("asked with %q", got)
				}
			})
		})
	}
}
