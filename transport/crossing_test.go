package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// signing is a base that signs for the user of the context, as OAuth clients do.
type signing struct{ base http.RoundTripper }

type signerKey struct{}

func (s signing) RoundTrip(req *http.Request) (*http.Response, error) {
	if user, _ := req.Context().Value(signerKey{}).(string); user != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", user)
	}
	return s.base.RoundTrip(req)
}

// Users ask one upstream over real connections, and then it is down, or has a
// fresh answer in the cache: each gets what was said to a request with its own
// credentials, or a failure. What the upstream saw is the judge of who asks.
func TestNoAnswerCrossesUsers(t *testing.T) {
	signer := func(req *http.Request) string {
		user, _ := req.Context().Value(signerKey{}).(string)
		return user
	}
	for _, c := range []struct {
		name  string
		cache *fallbackcache.Cache
		fresh bool
	}{
		{name: "no partition", cache: &fallbackcache.Cache{}},
		{name: "memory", cache: &fallbackcache.Cache{Partition: signer}},
		{name: "fresh", cache: &fallbackcache.Cache{Partition: signer}, fresh: true},
		{name: "disk", cache: &fallbackcache.Cache{Partition: signer, Dir: t.TempDir()}},
		{name: "shared", cache: &fallbackcache.Cache{Partition: signer, Shared: true}, fresh: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var down atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if down.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				w.Header().Set("Cache-Control", "public, max-age=60")
				fmt.Fprintf(w, "%q %q %q", r.Header["Authorization"], r.Header["Cookie"], r.Header["X-Api-Key"])
			}))
			defer server.Close()
			p := policies.Policy{
				Match:          []policies.Match{{Host: "127.0.0.1"}},
				Fallback:       &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, ServeFresh: c.fresh}},
				Retry:          &policies.Retry{Disabled: true},
				CircuitBreaker: &policies.CircuitBreaker{Disabled: true},
			}
			base := &http.Transport{}
			defer base.CloseIdleConnections()
			tr := &Transport{Base: signing{base}, Policies: compile(t, p), Agent: alone(t), Cache: c.cache}

			type user struct {
				header http.Header
				url    *url.Userinfo
				signer string
			}
			var users []user
			for _, authorization := range [][]string{nil, {"alice"}, {"bob"}, {"alice", "bob"}, {"alice, bob"}, {""}} {
				for _, cookie := range []string{"", "alice", "bob"} {
					for _, key := range []string{"", "x-api-key", "X-Api-Key"} { // two ways to write one
						for _, info := range []*url.Userinfo{nil, url.UserPassword("alice", ""), url.UserPassword("bob", "")} {
							for _, signer := range []string{"", "alice", "bob"} { // i%3 in users
								h := http.Header{}
								if authorization != nil {
									h["Authorization"] = authorization
								}
								if cookie != "" {
									h.Set("Cookie", cookie)
								}
								if key != "" {
									h[key] = []string{"alice"}
								}
								users = append(users, user{h, info, signer})
							}
						}
					}
				}
			}
			ask := func(u user) (status int, body string, from Source) {
				var info Info
				ctx := WithInfo(context.WithValue(t.Context(), signerKey{}, u.signer), &info)
				req, err := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header, req.URL.User = u.header.Clone(), u.url
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				return resp.StatusCode, read(t, resp), info.Served
			}
			saidTo := make([]string, len(users))
			for i, u := range users {
				_, saidTo[i], _ = ask(u)
			}
			given := 0
			for _, state := range []bool{false, true} {
				down.Store(state)
				for i, u := range users {
					status, body, from := ask(u)
					switch {
					case c.name == "no partition" && from == FromStale && body == saidTo[i-i%3]:
						given++ // without one it is what was said to a caller that the base did not sign for
					case status == http.StatusOK && body != saidTo[i]:
						t.Errorf("down %v: %+v got %s (%s), want %s", state, u, body, from, saidTo[i])
					case status == http.StatusOK && from != FromUpstream:
						given++
					}
				}
			}
			if given < len(users)/4 {
				t.Errorf("only %d of %d were answered from the cache", given, 2*len(users))
			}
			if s := c.cache.Stats(); s.DiskErrors != 0 || strings.HasPrefix(c.name, "disk") && s.DiskStored == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
