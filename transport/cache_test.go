package transport

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// TestCacheIsTheTransports: two transports of one session may have bases that
// call as somebody else (a client certificate, credentials added on the way),
// and then one's answer is not the other's.
func TestCacheIsTheTransports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, stale(time.Second))
		fillCache(t, tr, s, answer{err: errReset})
		stranger := &Transport{Base: &script{answers: []answer{{err: errReset}}}, Policies: tr.Policies, Agent: tr.Agent}
		if resp, err := stranger.RoundTrip(request(t, "GET", nil)); !errors.Is(err, errReset) {
			t.Errorf("another transport got %v, %v; want its own error", resp, err)
		}
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); err != nil || read(t, resp) != "good" {
			t.Errorf("the one that fetched it got %v, %v", resp, err)
		}
	})
}

// TestUnsafeInvalidatesWhereverItGoes: also through an upstream of the same
// transport that keeps nothing itself.
func TestUnsafeInvalidatesWhereverItGoes(t *testing.T) {
	for name, given := range map[string]*fallbackcache.Cache{"own cache": nil, "given cache": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads := named(stale(time.Second))
				set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
					"reads":  reads,
					"writes": {Match: []policies.Match{{Host: "upstream.test", Methods: []string{"PUT"}}}},
				}})
				if err != nil {
					t.Fatal(err)
				}
				s := new(script)
				tr := &Transport{Base: s, Agent: alone(t), Policies: set, Cache: given}
				fillCache(t, tr, s, answer{status: 204}, answer{err: errReset})
				if _, err := tr.RoundTrip(request(t, "PUT", nil)); err != nil {
					t.Fatal(err)
				}
				if resp, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, errReset) {
					t.Errorf("got %v, %v; want the error: what is stored was changed", resp, err)
				}
			})
		})
	}
}
