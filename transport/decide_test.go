package transport

import (
	"math"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

func builtInRetry(t *testing.T) *policies.Retry {
	return compile(t, named(policies.Policy{})).Named("upstream").Policy.Retry
}

func TestDecide(t *testing.T) {
	p := builtInRetry(t)
	base := facts{attempt: 1, tries: 3, method: "GET", replayable: true, left: math.MaxInt64, random: 0.5}
	for _, tc := range []struct {
		name string
		set  func(*facts)
		want plan
	}{
		{"transport error", func(*facts) {}, plan{again: true, wait: 25 * time.Millisecond, cost: 14}},
		{"second wait is doubled", func(f *facts) { f.attempt = 2 }, plan{again: true, wait: 50 * time.Millisecond, cost: 14}},
		{"503", func(f *facts) { f.status = 503 }, plan{again: true, wait: 25 * time.Millisecond, cost: 14}},
		{"429 is throttling", func(f *facts) { f.status = 429 }, plan{again: true, wait: 500 * time.Millisecond, cost: 5}},
		{"503 with Retry-After is throttling", func(f *facts) { f.status, f.hasAfter, f.after = 503, true, 3*time.Second },
			plan{again: true, wait: 3 * time.Second, cost: 5}},
		{"Retry-After never shortens", func(f *facts) { f.status, f.hasAfter = 503, true },
			plan{again: true, wait: 500 * time.Millisecond, cost: 5}},
		{"502 with Retry-After waits but is not throttling", func(f *facts) { f.status, f.hasAfter, f.after = 502, true, time.Second },
			plan{again: true, wait: time.Second, cost: 14}},
		{"Retry-After above the cap", func(f *facts) { f.status, f.hasAfter, f.after = 503, true, 61*time.Second },
			plan{why: "Retry-After is longer than max_retry_after"}},
		{"Retry-After past the deadline", func(f *facts) { f.status, f.hasAfter, f.after, f.left = 503, true, 5*time.Second, 5*time.Second },
			plan{why: "the deadline comes first"}},
		{"last attempt", func(f *facts) { f.attempt = 3 }, plan{why: "max_attempts reached"}},
		{"below a retry", func(f *facts) { f.tries, f.below = 1, true }, plan{why: "the request is itself a retry"}},
		{"before a stale answer", func(f *facts) { f.tries = 1 }, plan{why: "a stored answer is there"}},
		{"200", func(f *facts) { f.status = 200 }, plan{}},
		{"404", func(f *facts) { f.status = 404 }, plan{}},
		{"500", func(f *facts) { f.status = 500 }, plan{}},
		{"501", func(f *facts) { f.status = 501 }, plan{}},
		{"POST", func(f *facts) { f.method = "POST" }, plan{why: "method POST without idempotency key"}},
		{"POST never sent", func(f *facts) { f.method, f.neverSent = "POST", true }, plan{again: true, wait: 25 * time.Millisecond, cost: 14}},
		{"POST with key", func(f *facts) { f.method, f.keyed = "POST", true }, plan{again: true, wait: 25 * time.Millisecond, cost: 14}},
		{"unknown method", func(f *facts) { f.method = "PURGE" }, plan{why: "method PURGE without idempotency key"}},
		{"PUT", func(f *facts) { f.method = "PUT" }, plan{again: true, wait: 25 * time.Millisecond, cost: 14}},
		{"PUT with If-Match", func(f *facts) { f.method, f.preconditioned = "PUT", true },
			plan{why: "its own success would fail its precondition"}},
		{"PUT with If-Match never sent", func(f *facts) { f.method, f.preconditioned, f.neverSent = "PUT", true, true },
			plan{again: true, wait: 25 * time.Millisecond, cost: 14}},
		{"GET with If-None-Match", func(f *facts) { f.preconditioned = true }, plan{again: true, wait: 25 * time.Millisecond, cost: 14}},
		{"body lost", func(f *facts) { f.method, f.replayable = "PUT", false }, plan{why: "the request body cannot be sent again"}},
		{"409 without policy", func(f *facts) { f.status, f.keyed, f.maybe = 409, true, true }, plan{}},
		{"409 to the first attempt", func(f *facts) { f.status, f.keyed, f.minted = 409, true, true }, plan{}},
		{"409 to a repetition", func(f *facts) { f.method, f.status, f.keyed, f.minted, f.maybe = "POST", 409, true, true, true },
			plan{again: true, wait: 25 * time.Millisecond, cost: 14}},
	} {
		f := base
		tc.set(&f)
		if got := decide(p, f); got != tc.want {
			t.Errorf("%s: decide gave %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{"", 0, false},
		{"0", 0, true},
		{" 120 ", 2 * time.Minute, true},
		{"99999999999999999999", math.MaxInt64, true},
		{"9223372036854775807", math.MaxInt64, true},
		{"-1", 0, false},
		{"1.5", 0, false},
		{"soon", 0, false},
		{"Mon, 23 Nov 2026 12:00:30 GMT", 30 * time.Second, true},
		{"Monday, 23-Nov-26 12:00:30 GMT", 30 * time.Second, true},
		{"Mon Nov 23 12:00:30 2026", 30 * time.Second, true},
		{"Mon, 23 Nov 2026 11:00:00 GMT", 0, true},
	} {
		if got, ok := retryAfter(tc.value, now); got != tc.want || ok != tc.ok {
			t.Errorf("retryAfter(%q) gave %v, %v; want %v, %v", tc.value, got, ok, tc.want, tc.ok)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "Mon, 23 Nov 2026 12:00:30 GMT", "99999999999999999999", ""} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		if d, ok := retryAfter(value, now); d < 0 || !ok && d != 0 {
			t.Errorf("retryAfter(%q) gave %v, %v", value, d, ok)
		}
	})
}

// TestBackoffSpread: full jitter is even over the whole range, and capped.
func TestBackoffSpread(t *testing.T) {
	const n, base, most = 20000, 100 * time.Millisecond, 300 * time.Millisecond
	rng := rand.New(rand.NewPCG(1, 2))
	for attempt, top := range map[int]time.Duration{1: base, 2: 2 * base, 3: most, 60: most, 5000: most} {
		var buckets [10]int
		for range n {
			d := backoff(base, most, attempt, rng.Float64())
			if d < 0 || d >= top {
				t.Fatalf("attempt %d: wait %v is outside [0, %v)", attempt, d, top)
			}
			buckets[int(d*10/top)]++
		}
		for i, got := range buckets {
			if got < n/10*9/10 || got > n/10*11/10 {
				t.Errorf("attempt %d: %d of %d waits in tenth %d, want about %d", attempt, got, n, i, n/10)
			}
		}
	}
}

func TestAttemptDue(t *testing.T) {
	const s = time.Second
	for _, tc := range []struct {
		name                       string
		limit, total, begun, moved time.Duration
		want                       time.Duration
		kind                       error
	}{
		{"nothing", 0, 0, s, 0, 0, nil},
		{"attempt", 10 * s, 0, s, 0, 11 * s, ErrAttemptTimeout},
		{"attempt before total", 10 * s, 30 * s, s, 0, 11 * s, ErrAttemptTimeout},
		{"total before attempt", 10 * s, 8 * s, s, 0, 8 * s, ErrTotalTimeout},
		{"the upload moved", 10 * s, 30 * s, s, 25 * s, 35 * s, ErrAttemptTimeout},
		{"only total", 0, 8 * s, s, 0, 8 * s, ErrTotalTimeout},
		{"only total, the upload moved", 0, 8 * s, s, 7 * s, 15 * s, ErrTotalTimeout},
	} {
		got, kind := attemptDue(tc.limit, tc.total, tc.begun, tc.moved)
		if got != tc.want || kind != tc.kind {
			t.Errorf("%s: due at %v by %v, want %v by %v", tc.name, got, kind, tc.want, tc.kind)
		}
	}
}

func TestNormal(t *testing.T) {
	for in, want := range map[string]string{
		"http://Example.COM/x":       "http://example.com",
		"http://example.com:80/":     "http://example.com",
		"https://example.com:443/":   "https://example.com",
		"https://example.com:80/":    "https://example.com:80",
		"http://[::1]:80/":           "http://[::1]",
		"http://user:pw@example.com": "http://example.com",
	} {
		req, err := http.NewRequest("GET", in, nil)
		if err != nil {
			t.Fatal(err)
		}
		scheme, host := normal(req.URL)
		if got := scheme + "://" + host; got != want {
			t.Errorf("normal(%s) = %s, want %s", in, got, want)
		}
	}
}
