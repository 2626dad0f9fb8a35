package transport

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// A hook is told what the cache did with each answer, also once it has been
// read.
func TestCachedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dated := time.Now().UTC().Format(http.TimeFormat)
		good := answer{status: 200, body: "good", header: http.Header{"Cache-Control": {"max-age=60"}, "Etag": {`"1"`}, "Date": {dated}}}
		tr, _ := through(t, policies.Policy{
			Fallback: &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, ServeFresh: true}},
			Retry:    &policies.Retry{Disabled: true},
		}, good,
			answer{status: 304, header: http.Header{"Etag": {`"1"`}, "Cache-Control": {"max-age=60"}}},
			answer{err: errReset},
			answer{status: 200, body: "secret", header: http.Header{"Cache-Control": {"no-store"}}})
		var got []string
		tr.Observe = func(e Event) {
			if e.Kind == Cached || e.Kind == Served {
				got = append(got, fmt.Sprintf("%v: %s (%d)", e.Kind, e.Detail, e.Status))
			}
		}
		for i, wait := range []time.Duration{0, time.Second, time.Minute, 2 * time.Minute, 2 * time.Minute} {
			time.Sleep(wait)
			resp, err := tr.RoundTrip(request(t, "GET", nil))
			if err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			got = append(got, "returned")
			read(t, resp)
		}
		want := []string{
			"returned", "cache: stored (200)",
			"cache: fresh (0)", "returned",
			"cache: confirmed (304)", "returned",
			"fallback served: stale (0)", "returned",
			"cache: forbidden (200)", "returned",
		}
		if !slices.Equal(got, want) {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A folder that cannot be used is told of, once, and calls go on.
func TestNoDiskStoreIsTold(t *testing.T) {
	tr, _ := through(t, stale(time.Second), cacheable("good"))
	tr.Cache = &fallbackcache.Cache{Dir: filepath.Join("/dev/null", "none")}
	var told []Event
	tr.Observe = func(e Event) {
		if e.Kind == NotApplied {
			told = append(told, e)
		}
	}
	for range 2 {
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
	}
	if len(told) != 1 || told[0].Err == nil || !strings.Contains(told[0].Err.Error(), "disk store in /dev/null/none") {
		t.Errorf("told %+v", told)
	}
}
