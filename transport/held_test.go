package transport

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

func told(seconds string) answer {
	return answer{status: 503, header: http.Header{"Retry-After": {seconds}}}
}

// paused is a transport over base; how is the policy's word.
func paused(t *testing.T, base *script, how policies.Pause) *Transport {
	return &Transport{Base: base, Agent: alone(t), random: func() float64 { return 0.5 }, Policies: compile(t, named(policies.Policy{
		Retry: &policies.Retry{Pause: how, MaxRetryAfter: 20 * time.Second},
	}))}
}

// send makes one call and gives its status, or its error.
func sendOne(t *testing.T, tr *Transport, req *http.Request) (int, error) {
	t.Helper()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// One call's Retry-After holds back the retry of another, which failed without
// being told anything, and no first attempt.
func TestRetryAfterHoldsBackOtherRetries(t *testing.T) {
	for how, want := range map[policies.Pause]time.Duration{
		policies.PauseRetries: 10*time.Second + 25*time.Millisecond,
		policies.PauseOff:     25 * time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			base := &script{answers: []answer{told("10"), {status: 502}, {status: 200}}}
			tr := paused(t, base, how)
			post := get(t)
			post.Method = http.MethodPost // is not retried
			if status, err := sendOne(t, tr, post); status != 503 {
				t.Fatal(status, err)
			}
			began := time.Now()
			if status, err := sendOne(t, tr, get(t)); status != 200 {
				t.Fatal(status, err)
			}
			if at := base.calls[1].at.Sub(began); at != 0 {
				t.Errorf("%s: the first attempt was held back for %v", how, at)
			}
			if at := base.calls[2].at.Sub(began); at != want {
				t.Errorf("%s: the retry came after %v, want %v", how, at, want)
			}
		})
	}
}

// A retry that waits already when another call is told to wait stays back too;
// where that goes beyond its deadline the caller gets what there was.
func TestRetryAfterReachesWaitingRetries(t *testing.T) {
	for name, one := range map[string]struct {
		total time.Duration
		want  int
	}{"time enough": {30 * time.Second, 200}, "not": {5 * time.Second, 502}} {
		synctest.Test(t, func(t *testing.T) {
			base := &script{answers: []answer{{status: 502}, told("10"), {status: 200}}}
			tr := &Transport{Base: base, Agent: alone(t), random: func() float64 { return 0.5 }, Policies: compile(t, named(policies.Policy{
				Timeout: &policies.Timeout{Total: one.total},
				Retry:   &policies.Retry{Backoff: policies.Backoff{Base: 2 * time.Second}},
			}))}
			began := time.Now()
			done := make(chan int)
			go func() {
				status, _ := sendOne(t, tr, get(t))
				done <- status
			}()
			synctest.Wait()
			post := get(t)
			post.Method = http.MethodPost
			sendOne(t, tr, post)
			if status := <-done; status != one.want {
				t.Errorf("%s: status %d, want %d", name, status, one.want)
			}
			if took := time.Since(began); one.want == 200 && took < 10*time.Second {
				t.Errorf("the retry was sent after %v, within the 10 s of another's Retry-After", took)
			}
		})
	}
}

// With pause: all the upstream is not called before its time, and the policy's
// bound is the longest that an upstream can ask for.
func TestPauseAll(t *testing.T) {
	for seconds, until := range map[string]time.Duration{"5": 5 * time.Second, "900": 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			base := &script{answers: []answer{told(seconds), {status: 200}}}
			tr := paused(t, base, policies.PauseAll)
			post := get(t)
			post.Method = http.MethodPost
			sendOne(t, tr, post)
			time.Sleep(until - time.Millisecond)
			_, err := sendOne(t, tr, get(t))
			var no *RejectedError
			if !errors.Is(err, ErrPaused) || !errors.As(err, &no) || no.RetryAfter != time.Millisecond {
				t.Errorf("Retry-After %s, 1 ms before %v: %v", seconds, until, err)
			}
			time.Sleep(time.Millisecond)
			if status, err := sendOne(t, tr, get(t)); status != 200 {
				t.Errorf("Retry-After %s, after %v: %d, %v", seconds, until, status, err)
			}
		})
	}
}

// An upstream that asks other calls without end to come later holds a retry
// back for max_retry_after, and not for ever: the caller gets what there was.
func TestRetryIsNotHeldForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &script{answers: []answer{{status: 502}, told("5")}}
		tr := &Transport{Base: base, Agent: alone(t), random: func() float64 { return 0.5 }, Policies: compile(t, named(policies.Policy{
			Timeout: &policies.Timeout{Total: policies.None}, CircuitBreaker: &policies.CircuitBreaker{Disabled: true},
			Retry: &policies.Retry{MaxRetryAfter: 20 * time.Second, Backoff: policies.Backoff{Base: 3 * time.Second}},
		}))}
		began, over := time.Now(), make(chan struct{})
		go func() {
			defer close(over)
			status, err := sendOne(t, tr, get(t))
			if took := time.Since(began); status != 502 || took < 15*time.Second || took > 25*time.Second {
				t.Errorf("%d, %v after %v, want the answer to the first attempt after about 20s", status, err, took)
			}
		}()
		for range 60 {
			time.Sleep(time.Second)
			post := get(t)
			post.Method = http.MethodPost // is not retried
			sendOne(t, tr, post)
		}
		<-over
	})
}
