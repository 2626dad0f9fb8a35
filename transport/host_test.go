package transport

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/agent/page"
	"github.com/resagent/resagent/policies"
)

// sharing is a breaker of the host's circuit s. It opens by the rate alone.
func sharing(s *shop) *breaker {
	set := settings()
	set.ConsecutiveFailures = 0
	b := newBreaker(set, time.Now())
	b.host = s
	return b
}

// says has the agent change its word, for a time from now.
func (s *shop) says(state page.State, forced bool, epoch uint64, d time.Duration) {
	s.word.Store(uint64(page.NewCircuit(state, forced, epoch, client.SinceBoot(time.Now())+d)))
}

func nearly(d, want time.Duration) bool { return d <= want && d > want-time.Minute }

// The host's word comes first as long as its agent is there, and the process
// goes on from it when it is not.
func TestHostsWordIsFollowed(t *testing.T) {
	s := new(shop)
	b := sharing(s)
	if ch := b.follow(); ch != unchanged || b.state() != closed {
		t.Errorf("an agent that says nothing made it %v (change %d)", b.state(), ch)
	}
	for range 15 { // nearly enough to open it by itself
		one(b, failure)
	}

	waits, end := context.WithCancelCause(t.Context())
	b.openings.watch(&pause{until: time.Now().Add(time.Minute), end: end})
	s.says(page.CircuitOpen, false, 1, time.Hour)
	if ch := b.follow(); ch != opened || b.state() != open || !nearly(b.left(), time.Hour) {
		t.Errorf("open for the host: change %d, %v for %v", ch, b.state(), b.left())
	}
	if !errors.Is(context.Cause(waits), errOpened) {
		t.Error("a retry waits on before a circuit that the host opened")
	}
	refused := func(what string, wait time.Duration) {
		t.Helper()
		if _, ok, left := b.admit(); ok || wait > 0 && !nearly(left, wait) {
			t.Errorf("%s: let through %v, to come back in %v", what, ok, left)
		}
	}
	refused("open", time.Hour)
	s.gone.Store(true)
	refused("open, and the agent is gone", time.Hour)
	s.gone.Store(false)
	s.word.Store(0)
	if ch := b.follow(); ch != unchanged || b.state() != open {
		t.Errorf("an agent that knows nothing made it %v (change %d)", b.state(), ch)
	}
	refused("open, and the agent new", time.Hour)

	s.says(page.CircuitHalfOpen, false, 2, -client.SinceBoot(time.Now()))
	b.follow()
	refused("half-open, to all but the agent's probes", 0)
	s.gone.Store(true)
	tk, ok, left := b.admit()
	for !ok && left <= time.Microsecond { // its times are rounded up to that
		tk, ok, left = b.admit()
	}
	if !ok || stateOf(uint64(tk)) != halfOpen {
		t.Error("half-open, and the agent is gone: no probe of its own")
	}
	s.gone.Store(false)

	s.says(page.CircuitClosing, false, 3, client.ClosingTime/2)
	if ch := b.follow(); ch != reclosed || b.state() != closed {
		t.Errorf("closing for the host: change %d, %v", ch, b.state())
	}
	through := 0
	for range 1000 {
		if _, ok, wait := b.admit(); ok {
			through++
		} else if wait != rampWait {
			t.Fatalf("refused for %v while it closes", wait)
		}
	}
	if through < 350 || through > 700 {
		t.Errorf("in the middle of closing %d of 1000 calls passed", through)
	}
	s.says(page.CircuitClosed, false, 4, -client.SinceBoot(time.Now()))
	b.follow()
	for range 15 { // with those of before it would be enough
		if !one(b, failure) || b.state() != closed {
			t.Fatal("after the host's circuit has closed, failures of before count")
		}
	}

	s.says(page.CircuitClosed, true, 5, time.Hour)
	b.follow()
	for range 100 {
		if !one(b, failure) {
			t.Fatal("ordered to be closed, and a call is refused")
		}
	}
	if b.state() != closed {
		t.Errorf("ordered to be closed it is %v", b.state())
	}
	s.gone.Store(true) // and the time of the order is over
	for range 100 {
		one(b, failure)
	}
	if b.state() != open {
		t.Errorf("after the order, with failures only, it is %v", b.state())
	}
}

// What an attempt came to is told to the host once, as what it is, and not if
// the circuit has changed since it was let through.
func TestWhatTheHostIsTold(t *testing.T) {
	s := new(shop)
	b := sharing(s)
	now := time.Now()
	for _, o := range []outcome{success, slowSuccess, failure, slowFailure, ignored} {
		b.tellHost(0, nil, o, false, now)
	}
	b.tellHost(0, nil, failure, true, now)
	if g, n, o, l := s.good.Load(), s.bad.Load(), s.own.Load(), s.slow.Load(); g != 2 || n != 2 || o != 1 || l != 2 {
		t.Errorf("told %d good, %d bad, %d own, %d slow; want 2, 2, 1, 2", g, n, o, l)
	}
	s.says(page.CircuitClosed, false, 1, 0)
	b.tellHost(0, nil, failure, false, now)
	if s.bad.Load() != 2 {
		t.Error("a failure of before a change of the host's circuit was told")
	}
}

// Which failures are a process's own trouble.
func TestOwnTroubles(t *testing.T) {
	c := &call{t: &Transport{Agent: alone(t), Policies: compile(t, named(policies.Policy{}))}, req: get(t), ctx: t.Context(), start: time.Now()}
	c.policy()
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	for err, own := range map[error]bool{
		dial(os.NewSyscallError("socket", syscall.EMFILE)):         true,
		dial(os.NewSyscallError("socket", syscall.ENFILE)):         true,
		dial(&net.DNSError{Err: "no such host", IsNotFound: true}): true,
		fmt.Errorf("tls: %w", x509.UnknownAuthorityError{}):        true,
		dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)):  false,
		errReset: false,
	} {
		if r := c.classify(nil, err, nil); r.own != own || r.outcome != failure {
			t.Errorf("%v: own %v, outcome %d; want own %v, a failure", err, r.own, r.outcome, own)
		}
	}
}

// A call that is let through as the host's probe has the probe's time, also
// under a policy without any timeout; then it is told as failed.
func TestHungProbeOfTheHost(t *testing.T) {
	for _, attempt := range []time.Duration{25 * time.Second, policies.None} {
		synctest.Test(t, func(t *testing.T) {
			base := &script{answers: []answer{{status: 200, delay: time.Hour}}}
			tr := &Transport{Base: base, Agent: alone(t), Policies: compile(t, named(policies.Policy{
				Retry: &policies.Retry{Disabled: true}, Timeout: &policies.Timeout{Attempt: attempt, Total: policies.None}}))}
			s := new(shop)
			s.share(t, tr, page.CircuitHalfOpen, false)
			began := time.Now()
			_, err := sendOne(t, tr, get(t))
			wantTimeout(t, err, ErrAttemptTimeout, time.Since(began), client.ProbeTime)
			if len(s.ends) != 1 || s.ends[0] != client.ProbeFailure {
				t.Errorf("attempt timeout %v: the agent was told %q of the probe", attempt, s.ends)
			}
		})
	}
}

// A Retry-After is told to the host, and one that the host was told holds back,
// both for max_retry_after at most.
func TestPauseOfTheHost(t *testing.T) {
	base := &script{answers: []answer{told("900"), {status: 200}}}
	tr := paused(t, base, policies.PauseAll)
	s := new(shop)
	s.share(t, tr, page.CircuitClosed, false)
	post := get(t)
	post.Method = "POST"
	sendOne(t, tr, post)
	if s.pause != 20*time.Second {
		t.Errorf("told to wait 900 s, the host is told %v, want max_retry_after", s.pause)
	}
	other := paused(t, base, policies.PauseAll)
	s.share(t, other, page.CircuitClosed, false)
	for until, want := range map[time.Duration]time.Duration{5 * time.Second: 5 * time.Second, time.Hour: 20 * time.Second} {
		s.until.Store(int64(client.SinceBoot(time.Now()) + until))
		_, err := sendOne(t, other, get(t))
		var no *RejectedError
		if !errors.As(err, &no) || !errors.Is(err, ErrPaused) || !nearly(no.RetryAfter, want) {
			t.Errorf("the host was told to wait %v: %v", until, err)
		}
	}
	if n := base.count(); n != 1 {
		t.Errorf("%d calls were sent, want 1", n)
	}
}

// TestCellThatComesBack: while a circuit is not called the agent may need its
// cell for another one. That the cell comes back with the word it had, or the
// one of another, closed circuit before it, says nothing about the process's own
// opening.
func TestCellThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(shop)
		b := newBreaker(settings(), time.Now())
		b.host = s
		s.word.Store(uint64(page.NewCircuit(page.CircuitClosed, false, 3, 0)))
		b.follow()
		for range 20 {
			one(b, failure)
		}
		for range 4 { // its probes fail: for longer each time
			time.Sleep(b.left())
			one(b, failure)
		}
		left, word := b.left(), s.word.Load()
		s.word.Store(0)
		b.follow()
		s.word.Store(word)
		if ch := b.follow(); ch != unchanged || b.state() != open || b.left() != left {
			t.Errorf("changed: %v; %v for %v, want open for %v", ch, b.state(), b.left(), left)
		}
	})
}
