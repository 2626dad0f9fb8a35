package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

func slowSettings() policies.CircuitBreaker {
	set := settings()
	set.SlowCallDuration, set.SlowCallRate = time.Second, 0.5
	return set
}

func TestBreakerOpensOnSlowCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(slowSettings(), time.Now())
		for i := range 9 {
			one(b, success)
			one(b, slowSuccess)
			if b.state() != closed {
				t.Fatalf("open after %d calls, fewer than min_requests", 2*i+2)
			}
		}
		one(b, slowSuccess)
		if one(b, slowSuccess); b.state() != open {
			t.Fatalf("11 of 20 calls were slow and the circuit is %v", b.state())
		}
	})
}

// A failure that is slow counts as both: 30 % failures and 30 % slow successes
// are 60 % slow calls if the failures are slow, and not if they are quick.
func TestSlowFailuresAreSlow(t *testing.T) {
	for _, how := range []struct {
		fails outcome
		want  state
	}{{failure, closed}, {slowFailure, open}} {
		synctest.Test(t, func(t *testing.T) {
			set := slowSettings()
			set.FailureRate = 0.9
			b := newBreaker(set, time.Now())
			for _, o := range []outcome{success, success, how.fails, slowSuccess, success, how.fails, slowSuccess, success, how.fails, slowSuccess} {
				one(b, o)
				one(b, o)
			}
			if b.state() != how.want {
				t.Errorf("with failures of kind %d the circuit is %v, want %v", how.fails, b.state(), how.want)
			}
		})
	}
}

// A probe that is slow does not close the circuit.
func TestSlowProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(slowSettings(), time.Now())
		for range 20 {
			one(b, slowSuccess)
		}
		time.Sleep(6 * time.Second)
		if !one(b, slowSuccess) || b.state() != open {
			t.Fatalf("after a slow probe the circuit is %v", b.state())
		}
		time.Sleep(12 * time.Second)
		if !one(b, success) || b.state() != closed {
			t.Fatalf("after a quick probe the circuit is %v", b.state())
		}
	})
}

// What is measured is the time from the permits to the headers, anew whenever
// the request body moves, and only where the policy asks for it.
func TestWhatIsSlow(t *testing.T) {
	for name, one := range map[string]struct {
		limit, delay time.Duration
		upload       bool
		want         state
	}{
		"slow":                   {time.Second, 1100 * time.Millisecond, false, open},
		"quick":                  {time.Second, 900 * time.Millisecond, false, closed},
		"nothing is slow":        {policies.None, 5 * time.Second, false, closed},
		"an upload that goes on": {time.Second, 0, true, closed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &script{answers: []answer{{status: 200, delay: one.delay}}}
				tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, named(policies.Policy{
					CircuitBreaker: &policies.CircuitBreaker{SlowCallDuration: one.limit, Window: time.Minute},
				}))}
				for range 20 {
					req := get(t)
					if one.upload {
						req.Method, req.Body = http.MethodPut, io.NopCloser(&slowly{left: 3, part: 800 * time.Millisecond})
					}
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
				}
				resp, err := tr.RoundTrip(get(t))
				if err == nil {
					resp.Body.Close()
				}
				if refused := errors.Is(err, ErrCircuitOpen); refused != (one.want == open) {
					t.Errorf("after 20 such calls the next one ends with %v; want a circuit that is %v", err, one.want)
				}
			})
		})
	}
}

// slowly is a body that comes in parts with a pause before each.
type slowly struct {
	left int
	part time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	time.Sleep(s.part)
	return copy(p, bytes.Repeat([]byte("x"), min(10, len(p)))), nil
}
