package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/fallbackcache"
	"github.com/resagent/resagent/policies"
)

// editable is an upstream of one page, which a PUT changes at once. What a GET or
// HEAD is told, 2 s after it came, is the page as it was then.
type editable struct {
	mu      sync.Mutex
	version int
	refuses int // so many requests, with 503
	down    bool
}

func (u *editable) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, wait, err := u.answer(req)
	time.Sleep(wait)
	return resp, err
}

func (u *editable) answer(req *http.Request) (resp *http.Response, wait time.Duration, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := stored("public, max-age=60", fmt.Sprint("version ", u.version))
	switch {
	case req.Method == http.MethodPut:
		u.version++
		a = answer{status: 204}
	case u.down:
		a = answer{err: errReset}
	case u.refuses > 0:
		u.refuses--
		a = answer{status: 503}
	default:
		wait = 2 * time.Second
	}
	resp, err = (&script{answers: []answer{a}}).RoundTrip(req)
	if err == nil && req.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp, wait, err
}

func (u *editable) fails() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = true
}

// What was asked for before a change is not stored after it, whichever way the
// call went: the origin may have made the answer before. In the same process,
// and where another one made the change.
func TestAskedBeforeAChange(t *testing.T) {
	fresh := func(p policies.Policy) policies.Policy {
		p.Fallback = &policies.Fallback{Stale: &policies.Stale{MaxStale: time.Hour, ServeFresh: true}}
		return p
	}
	plain := stale(0)
	retries := stale(0)
	retries.Retry = &policies.Retry{MaxAttempts: 3}
	hedges := hedging()
	hedges.Fallback = plain.Fallback
	for _, way := range []struct {
		name   string
		policy policies.Policy
		field  [2]string // of the request
		start  int       // requests that are refused
	}{
		{name: "a GET", policy: once(plain)},
		{name: "a GET that leads", policy: once(fresh(policies.Policy{}))},
		{name: "one with a condition", policy: once(fresh(policies.Policy{})), field: [2]string{"If-None-Match", `"other"`}},
		{name: "one that wants it anew", policy: once(fresh(policies.Policy{})), field: [2]string{"Cache-Control", "no-cache"}},
		{name: "a retry", policy: retries, start: 1},
		{name: "a hedge", policy: hedges},
	} {
		for _, place := range []string{"memory", "disk", "disk of another process", "shared disk"} {
			for _, change := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", way.name, place, change), func(t *testing.T) {
					if place != "memory" && runtime.GOOS == "windows" {
						t.Skip("NOT TESTED: there is no disk store on Windows")
					}
					synctest.Test(t, func(t *testing.T) {
						u := &editable{refuses: way.start}
						mine := &Transport{Base: u, Policies: compile(t, named(way.policy)), Agent: alone(t), Cache: new(fallbackcache.Cache)}
						other := mine
						if place != "memory" {
							mine.Cache.Dir = t.TempDir()
						}
						if place == "shared disk" {
							mine.Cache.Shared = true
							if err := os.Chmod(mine.Cache.Dir, 0o770|fs.ModeSetgid); err != nil {
								t.Fatal(err)
							}
						}
						if place == "disk of another process" {
							other = &Transport{Base: u, Policies: mine.Policies, Agent: mine.Agent, Cache: &fallbackcache.Cache{Dir: mine.Cache.Dir}}
						}
						if err := mine.Cache.Open(); err != nil {
							t.Fatal(err)
						}
						done := make(chan string)
						go func() {
							req := request(t, "GET", nil)
							if way.field[0] != "" {
								req.Header.Set(way.field[0], way.field[1])
							}
							resp, err := mine.RoundTrip(req)
							if err != nil {
								t.Error(err)
								close(done)
								return
							}
							done <- read(t, resp)
						}()
						time.Sleep(time.Second)
						if change {
							if _, err := other.RoundTrip(request(t, "PUT", nil)); err != nil {
								t.Fatal(err)
							}
						}
						if got := <-done; got != "version 0" {
							t.Fatalf("the caller got %q", got)
						}
						u.fails()
						resp, err := mine.RoundTrip(request(t, "GET", nil))
						if change && !errors.Is(err, errReset) {
							t.Errorf("after the change got %q, %v", read(t, resp), err)
						}
						if !change && (err != nil || read(t, resp) != "version 0") {
							t.Errorf("without a change: %v, %v; want what was stored", resp, err)
						}
					})
				})
			}
		}
	}
}

// What comes after its caller was given the stale answer is held to the same.
func TestLateAnswerOfBeforeAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := new(editable)
		tr := &Transport{Base: u, Policies: compile(t, named(stale(time.Second/2))), Agent: alone(t)}
		resp, err := tr.RoundTrip(request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
		time.Sleep(time.Minute)
		giveStale := request(t, "GET", nil)
		if resp, err = tr.RoundTrip(giveStale); err != nil || read(t, resp) != "version 0" || resp.Header.Get("Cache-Status") == "" {
			t.Fatalf("got %v, %v; want the stale one", resp, err)
		}
		if _, err := tr.RoundTrip(request(t, "PUT", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		u.fails()
		if resp, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, errReset) {
			t.Errorf("got %q, %v", read(t, resp), err)
		}
	})
}

// The answer to a HEAD tells nothing of what was stored after it was asked for
// and changed.
func TestHeadOfBeforeAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := new(editable)
		tr := &Transport{Base: u, Policies: compile(t, named(freshOnly())), Agent: alone(t)}
		head := make(chan error)
		go func() {
			_, err := tr.RoundTrip(request(t, "HEAD", nil))
			head <- err
		}()
		time.Sleep(time.Second)
		if _, err := tr.RoundTrip(request(t, "PUT", nil)); err != nil {
			t.Fatal(err)
		}
		quick := &Transport{Base: &script{answers: []answer{stored("max-age=60", "version 1")}}, Policies: tr.Policies, Agent: tr.Agent, Cache: tr.cache()}
		giving(t, quick, request(t, "GET", nil), "version 1", FromUpstream)
		if err := <-head; err != nil {
			t.Fatal(err)
		}
		giving(t, quick, request(t, "GET", nil), "version 1", FromFresh)
	})
}
