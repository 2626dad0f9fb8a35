package transport

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
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
