package fallbackcache

import (
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// The budget allows 3 allocations for a request of which nothing is stored, with
// serve_fresh too: a flight.
func TestFlightAllocations(t *testing.T) {
	cache := new(Cache)
	req := get(t, page, "Accept: application/json", "Authorization: Bearer x")
	resp := response(t, req, 200, "x", "Cache-Control: no-store")
	now := start
	fly := func() {
		if f, leads := cache.Join(req, time.Second, now); leads {
			f.Keep(req, resp, Stamp{}, now, nil)
		}
	}
	for name, c := range map[string]struct {
		step time.Duration
		most float64
	}{"of which nothing is known": {vainTime, 1}, "whose answers are for nobody else": {0, 0}} {
		n := testing.AllocsPerRun(100, func() {
			now = now.Add(c.step)
			cache.Look(req, time.Hour, now)
			fly()
		})
		if n > c.most {
			t.Errorf("a request %s: %v allocations, want %v at most", name, n, c.most)
		}
	}
}

// BenchmarkJoin is what serve_fresh costs on answers that are not stored.
func BenchmarkJoin(b *testing.B) {
	for name, step := range map[string]time.Duration{"unknown": vainTime, "vain": 0} {
		b.Run(name, func(b *testing.B) {
			cache := new(Cache)
			keep(b, cache, start, get(b, "http://upstream.test/other"), 200, "x")
			req := asking(b, "Authorization: Bearer x")
			resp := response(b, req, 200, "x", append(usual[:4:4], "Cache-Control: no-store")...)
			now := start
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(step)
				f, leads := cache.Join(req, time.Second, now)
				if leads {
					f.Keep(req, resp, Stamp{}, now, nil)
				}
			}
		})
	}
}

// What requests share a flight: those that may get the same answer, and no
// others that are known to get another.
func TestFlightKey(t *testing.T) {
	base := []string{"Authorization: alice", "Accept: text/html", "X-Request-Id: 1"}
	odd := get(t, page)
	odd.Header = http.Header{"authorization": {"alice"}, "ACCEPT": {"text/html"}, "nö token": {"x"}}
	for _, c := range []struct {
		name string
		req  *http.Request
		same bool
	}{
		{"the same", get(t, page, base...), true},
		{"another order", get(t, page, base[2], base[1], base[0]), true},
		{"another request id", get(t, page, base[0], base[1], "X-Request-Id: 2"), true},
		{"the host in other letters", get(t, "http://UPSTREAM.test:80/page?b=2&a=1", base...), true},
		{"another user", get(t, page, "Authorization: bob", base[1]), false},
		{"no user", get(t, page, base[1]), false},
		{"a user twice", get(t, page, base[0], "Authorization: bob", base[1]), false},
		{"another type", get(t, page, base[0], "Accept: text/plain"), false},
		{"another origin", get(t, page, base[0], base[1], "Origin: http://a.test"), false},
		{"names in other letters", odd, true},
		{"another query", get(t, "http://upstream.test/page?a=1&b=2", base...), false},
		{"userinfo", get(t, "http://u:p@upstream.test/page?b=2&a=1", base...), false},
	} {
		cache := new(Cache)
		leader, leads := cache.Join(get(t, page, base...), time.Second, start)
		if !leads {
			t.Fatal("the first does not lead")
		}
		f, leads := cache.Join(c.req, time.Second, start)
		if same := f == leader; same != c.same || leads == c.same {
			t.Errorf("%s: the same flight: %v, want %v", c.name, same, c.same)
		}
	}
}

// A flight ends once, whoever ends it, and one that comes after it is another.
func TestFlightEnds(t *testing.T) {
	cache := new(Cache)
	req := get(t, page)
	first, _ := cache.Join(req, time.Second, start)
	follower, leads := cache.Join(req, time.Second, start)
	if leads || follower != first {
		t.Fatal("the second does not follow")
	}
	second, leads := cache.Join(req, time.Second, start.Add(time.Second)) // the first is late
	if !leads {
		t.Fatal("nobody leads in place of the one that is late")
	}
	first.End()
	first.End()
	<-first.Done()
	if third, leads := cache.Join(req, time.Second, start.Add(time.Second)); leads || third != second {
		t.Error("the end of the first ended the second")
	}
	second.End()
	if len(cache.flights.ahead) != 0 {
		t.Errorf("%d flights are left", len(cache.flights.ahead))
	}
}

// A caller that forgets to close its response does not hold up the others for
// good.
func TestFlightOfAForgottenBody(t *testing.T) {
	cache := new(Cache)
	req := get(t, page)
	f, _ := cache.Join(req, time.Hour, start)
	f.Keep(req, response(t, req, 200, "good", "Cache-Control: max-age=60"), Stamp{}, start, nil)
	if _, leads := cache.Join(req, time.Hour, start); leads {
		t.Fatal("it ended before its body")
	}
	for range 100 {
		runtime.GC()
		select {
		case <-f.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("it never ended")
}

// What is remembered of keys whose calls nobody should wait for is bounded, and
// forgotten after a while.
func TestVain(t *testing.T) {
	cache := new(Cache)
	for n := range 3 * vainKeys {
		req := get(t, fmt.Sprint("http://upstream.test/", n))
		f, _ := cache.Join(req, time.Second, start)
		f.Keep(req, response(t, req, 200, "", "Cache-Control: no-store"), Stamp{}, start, nil)
		if f, _ := cache.Join(req, time.Second, start.Add(vainTime-1)); f != nil {
			t.Fatalf("%d: waited for", n)
		}
		f, leads := cache.Join(req, time.Second, start.Add(vainTime))
		if !leads {
			t.Fatalf("%d: not waited for after a while", n)
		}
		f.End()
	}
	if len(cache.flights.ahead) != 0 {
		t.Errorf("%d flights are left", len(cache.flights.ahead))
	}
}

// A body that grows too large frees the others at that moment, however long its
// caller reads on.
func TestFlightOfALargeBody(t *testing.T) {
	cache := &Cache{MaxObject: 10}
	req := get(t, page)
	f, _ := cache.Join(req, time.Hour, start)
	if _, leads := cache.Join(req, time.Hour, start); leads {
		t.Fatal("two lead")
	}
	resp := response(t, req, 200, "0123456789x", "Cache-Control: max-age=60")
	resp.ContentLength = -1
	body := f.Keep(req, resp, Stamp{}, start, nil).Body
	for range 2 {
		select {
		case <-f.Done():
			t.Fatal("it ended while it may still be stored")
		default:
		}
		body.Read(make([]byte, 5))
	}
	body.Read(make([]byte, 5))
	select {
	case <-f.Done():
	default:
		t.Error("it did not end when it was given up")
	}
	if f, _ := cache.Join(req, time.Hour, start); f != nil {
		t.Error("the next ones wait again")
	}
}

// An answer that was not stored because of a change says nothing of the next
// ones: they are waited for.
func TestFlightAcrossAChange(t *testing.T) {
	for name, body := range map[string]string{"with a body": "before", "without": ""} {
		cache := new(Cache)
		req, put := get(t, page), request(t, "PUT", page)
		leader, _ := cache.Join(req, time.Second, start)
		follower, leads := cache.Join(req, time.Second, start)
		if leads || follower == nil {
			t.Fatalf("%s: the second does not follow", name)
		}
		asked := cache.Stamp(req)
		cache.Invalidate(put, response(t, put, 204, ""))
		drain(t, leader.Keep(req, response(t, req, 200, body, "Cache-Control: max-age=60"), asked, start, nil))
		<-follower.Done()
		if _, ok := follower.Answer(req, nil, time.Hour, start); ok {
			t.Errorf("%s: the follower got what was made before the change", name)
		}
		if f, leads := cache.Join(req, time.Second, start); f == nil || !leads {
			t.Errorf("%s: the next one is not waited for", name)
		}
	}
}
