package transport

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/idempotency"
	"github.com/resagent/resagent/policies"
)

// TestCircuitStatuses: the policy says which statuses are failures for the
// circuit; errors and timeouts always are.
func TestCircuitStatuses(t *testing.T) {
	slow := answer{status: 200, delay: time.Hour}
	for _, one := range []struct {
		statuses []int // nil: the built-in ones
		answer   answer
		opens    bool
	}{
		{nil, answer{status: 500}, true},
		{nil, answer{status: 504}, true},
		{nil, answer{status: 501}, false},
		{nil, answer{status: 429}, false},
		{nil, answer{status: 520}, false},
		{[]int{502, 503, 504}, answer{status: 500}, false},
		{[]int{502, 503, 504}, answer{status: 503}, true},
		{[]int{429, 520}, answer{status: 429}, true},
		{[]int{429, 520}, answer{status: 520}, true},
		{[]int{429, 520}, answer{status: 503}, false},
		{[]int{520}, answer{status: 520, header: map[string][]string{idempotency.ReplayedHeader: {"true"}}}, false},
		{[]int{}, answer{status: 503}, false},
		{[]int{}, answer{err: errReset}, true},
		{[]int{}, slow, true},
	} {
		t.Run(fmt.Sprintf("%v/%d,%v", one.statuses, one.answer.status, one.answer.err), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := once(policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 2, Statuses: one.statuses, OpenFor: 5 * time.Second}})
				tr, s := through(t, p, answer{err: errReset}, one.answer, one.answer)
				tr.RoundTrip(request(t, "GET", nil)) // one failure, which one more makes two
				tr.RoundTrip(request(t, "GET", nil))
				_, err := tr.RoundTrip(request(t, "GET", nil))
				if opened := errors.Is(err, ErrCircuitOpen); opened != one.opens {
					t.Fatalf("open: %v, want %v (%v)", opened, one.opens, err)
				}
				if !one.opens {
					return
				}
				time.Sleep(6 * time.Second) // a probe
				if tr.RoundTrip(request(t, "GET", nil)); s.count() != 3 {
					t.Fatalf("%d calls were sent, want 3", s.count())
				}
				if _, err := tr.RoundTrip(request(t, "GET", nil)); !errors.Is(err, ErrCircuitOpen) {
					t.Errorf("its probe failed, and the next call gets %v", err)
				}
			})
		})
	}
}

// TestStatusOfAProbe: a status that is no failure is a probe's success.
func TestStatusOfAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := through(t, once(policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1, Statuses: []int{502}, OpenFor: 5 * time.Second}}),
			answer{status: 502}, answer{status: 500})
		tr.RoundTrip(request(t, "GET", nil))
		time.Sleep(6 * time.Second)
		for range 2 {
			if _, err := tr.RoundTrip(request(t, "GET", nil)); err != nil {
				t.Error(err)
			}
		}
		if s.count() != 3 {
			t.Errorf("%d calls were sent, want 3", s.count())
		}
	})
}

// TestStatusesOfTheHost: the agent is told what the policy makes of a status,
// of a call and of a probe.
func TestStatusesOfTheHost(t *testing.T) {
	for _, one := range []struct {
		status int
		fails  bool
	}{{500, false}, {520, true}, {200, false}} {
		p := once(policies.Policy{CircuitBreaker: &policies.CircuitBreaker{Statuses: []int{520}}})
		for _, state := range []page.State{page.CircuitClosed, page.CircuitHalfOpen} {
			tr, _ := through(t, p, answer{status: one.status})
			host := new(shop)
			host.share(t, tr, state, false)
			if _, err := tr.RoundTrip(get(t)); err != nil {
				t.Fatal(err)
			}
			if state == page.CircuitClosed {
				if bad, good := host.bad.Load(), host.good.Load(); (bad == 1) != one.fails || bad+good != 1 {
					t.Errorf("%d: the host heard of %d failures and %d successes", one.status, bad, good)
				}
				continue
			}
			want := client.ProbeSuccess
			if one.fails {
				want = client.ProbeFailure
			}
			if !slices.Equal(host.ends, []client.ProbeOutcome{want}) {
				t.Errorf("%d: probes ended %v, want %v", one.status, host.ends, want)
			}
		}
	}
}

// TestStatusesInProportion: mode proportional goes by them too.
func TestStatusesInProportion(t *testing.T) {
	for status, fails := range map[int]bool{500: false, 520: true} {
		synctest.Test(t, func(t *testing.T) {
			tr, s := through(t, once(policies.Policy{CircuitBreaker: &policies.CircuitBreaker{Mode: policies.ModeProportional, Statuses: []int{520}}}), answer{status: status})
			for range 200 {
				tr.RoundTrip(request(t, "GET", nil))
			}
			if sent := s.count(); fails && sent > 50 || !fails && sent != 200 {
				t.Errorf("%d: %d of 200 calls were sent", status, sent)
			}
		})
	}
}

// TestStatusesAndBudget: what the circuit makes of a status does not make a
// success of it, and what is retried is none: each retry that fails is paid for, and nothing is earned.
func TestStatusesAndBudget(t *testing.T) {
	for name, one := range map[string]struct {
		breaker policies.CircuitBreaker
		status  int
	}{
		"500, built-in":            {policies.CircuitBreaker{}, 500},
		"500 is no failure":        {policies.CircuitBreaker{Statuses: []int{502}}, 500},
		"no status is":             {policies.CircuitBreaker{Statuses: []int{}}, 503},
		"520 is one":               {policies.CircuitBreaker{Statuses: []int{520}}, 520},
		"520 is only retried":      {policies.CircuitBreaker{}, 520},
		"429 is one":               {policies.CircuitBreaker{Statuses: []int{429}}, 429},
		"there is none, 500":       {policies.CircuitBreaker{Disabled: true}, 500},
		"none, with statuses, 500": {policies.CircuitBreaker{Disabled: true, Statuses: []int{502}}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one.breaker.ConsecutiveFailures, one.breaker.MinRequests = policies.None, 1e6
				tr, s := through(t, policies.Policy{Retry: &policies.Retry{MaxAttempts: 2, Statuses: []int{one.status}}, CircuitBreaker: &one.breaker},
					answer{status: one.status})
				for range 150 {
					tr.RoundTrip(request(t, "GET", nil))
				}
				cost := retryCost
				if one.status == 429 {
					cost = throttledCost
				}
				if n := s.count() - 150; n != 500/cost {
					t.Errorf("%d retries from a budget of 500, want %d", n, 500/cost)
				}
			})
		})
	}
}

// TestStatusesShareACircuit: two transports of one session whose policies differ
// in statuses alone have one circuit, as a process has before and after a push
// that changes them: what was counted stays, and each call is judged by the
// policy that it began under.
func TestStatusesShareACircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := func(statuses ...int) policies.Policy {
			return once(policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 3, Statuses: statuses}})
		}
		tr, s := through(t, with(), answer{status: 503})
		other := &Transport{Base: &script{answers: []answer{{status: 520}}}, Agent: tr.Agent, Policies: compile(t, named(with(520)))}
		third := &Transport{Base: s, Agent: tr.Agent, Policies: compile(t, named(with(520)))}
		for i, one := range []*Transport{tr, other, third, other, tr, tr} {
			if _, err := one.RoundTrip(request(t, "GET", nil)); err != nil {
				t.Fatalf("call %d: %v", i+1, err) // the third was a success
			}
		}
		for _, one := range []*Transport{tr, other, third} {
			if _, err := one.RoundTrip(request(t, "GET", nil)); !errors.Is(err, ErrCircuitOpen) {
				t.Errorf("after three failures in a row: %v, want the circuit open for both", err)
			}
		}
	})
}

// TestCircuitOf: a circuit is another one where anything but its statuses is.
func TestCircuitOf(t *testing.T) {
	base := policies.CircuitBreaker{}
	for i := range reflect.TypeFor[policies.CircuitBreaker]().NumField() {
		set := base
		name := reflect.TypeOf(set).Field(i).Name
		switch field := reflect.ValueOf(&set).Elem().Field(i); field.Kind() {
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int, reflect.Int64:
			field.SetInt(1)
		case reflect.Float64:
			field.SetFloat(1e-9)
		case reflect.String:
			field.SetString("x")
		case reflect.Slice:
			field.Set(reflect.ValueOf([]int{503}))
		default:
			t.Errorf("%s: what is a %v to circuitOf?", name, field.Kind())
		}
		if same := circuitOf(&set) == circuitOf(&base); same != (name == "Statuses") {
			t.Errorf("with another %s the circuit is the same: %v", name, same)
		}
	}
}
