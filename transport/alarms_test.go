package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// TestAlarmsStrikeEachInTime: whatever else the transport waits for, each
// attempt is cut off at its own time, and those that ended are let alone.
func TestAlarmsStrikeEachInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := &policies.Set{Version: 1, Upstreams: map[string]policies.Policy{}}
		limits := map[string]time.Duration{"one": time.Second, "two": 2 * time.Second, "ten": 10 * time.Second}
		for name, limit := range limits {
			set.Upstreams[name] = policies.Policy{
				Match: []policies.Match{{Host: name + ".test"}}, Timeout: &policies.Timeout{Attempt: limit},
				Retry: &policies.Retry{Disabled: true}, CircuitBreaker: &policies.CircuitBreaker{Disabled: true},
			}
		}
		snapshot, err := policies.Compile(set)
		if err != nil {
			t.Fatal(err)
		}
		hangs := &script{answers: []answer{{status: 200, delay: time.Hour}}}
		soon := &script{answers: []answer{{status: 200, delay: 700 * time.Millisecond}}}
		tr := &Transport{Policies: snapshot, Agent: alone(t), Base: &script{answers: []answer{{do: func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodHead {
				return soon.RoundTrip(req)
			}
			return hangs.RoundTrip(req)
		}}}}}
		var all sync.WaitGroup
		for range 300 {
			for name, limit := range limits {
				wait := time.Duration(rand.Int64N(int64(20 * time.Second)))
				method := []string{http.MethodGet, http.MethodHead}[rand.IntN(2)]
				all.Go(func() {
					time.Sleep(wait)
					req, err := http.NewRequest(method, "http://"+name+".test/", nil)
					if err != nil {
						t.Error(err)
						return
					}
					began := time.Now()
					_, err = tr.RoundTrip(req)
					if method == http.MethodGet {
						wantTimeout(t, err, ErrAttemptTimeout, time.Since(began), limit)
					} else if err != nil {
						t.Errorf("a call that took 0.7 s of %v: %v", limit, err)
					}
				})
			}
		}
		all.Wait()
		for i := range tr.alarms {
			part := &tr.alarms[i]
			part.mu.Lock()
			if n := len(part.queue); n != 0 {
				t.Errorf("%d alarms are left of calls that ended", n)
			}
			part.mu.Unlock()
		}
	})
}

// TestAlarmsRarelyTouchTheTimer: calls that end in time share one setting of
// a timer of the runtime.
func TestAlarmsRarelyTouchTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, once(policies.Policy{Timeout: &policies.Timeout{Attempt: 2 * time.Second}}), answer{status: 200, delay: time.Millisecond})
		var set [alarmParts]time.Duration
		for range 1000 {
			if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
				t.Fatal(err)
			}
			for i := range tr.alarms {
				part := &tr.alarms[i]
				part.mu.Lock()
				if set[i] != 0 && part.fires != set[i] {
					t.Errorf("the timer was set for %v and then %v in 1 s of calls with a timeout of 2 s", set[i], part.fires)
				}
				set[i] = part.fires
				part.mu.Unlock()
			}
		}
		if set == ([alarmParts]time.Duration{}) {
			t.Error("no timer was set")
		}
	})
}

// TestAlarmsAfterABubble: a transport that a bubble used before keeps its
// promise outside.
func TestAlarmsAfterABubble(t *testing.T) {
	var tr *Transport
	synctest.Test(t, func(t *testing.T) {
		tr, _ = through(t, once(policies.Policy{Timeout: &policies.Timeout{Attempt: 20 * time.Millisecond}}), answer{status: 200}, answer{status: 200, delay: time.Hour})
		if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
			t.Fatal(err)
		}
	})
	var used *alarmPart
	for i := range tr.alarms {
		if part := &tr.alarms[i].alarmPart; part.timer != nil {
			used = part
		}
	}
	for i := range tr.alarms { // whichever the next call has
		tr.alarms[i].timer, tr.alarms[i].fires = used.timer, used.fires
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx)); !errors.Is(err, ErrAttemptTimeout) {
		t.Errorf("got %v, want %v", err, ErrAttemptTimeout)
	}
}

// TestAlarmsLetTheEndedAlone: an alarm that is set while its attempt ends is
// dropped, whichever comes first.
func TestAlarmsLetTheEndedAlone(t *testing.T) {
	var l alarmPart
	for range 2000 {
		a := new(attempt)
		var both sync.WaitGroup
		both.Go(func() { l.set(a, time.Since(epoch)+time.Hour, time.Since(epoch)) })
		both.Go(func() {
			a.ended.Store(true)
			l.drop(a)
		})
		both.Wait()
		if len(l.queue) != 0 {
			t.Fatal("an attempt that has ended has an alarm")
		}
	}
	if l.timer != nil {
		l.timer.Stop()
	}
}
