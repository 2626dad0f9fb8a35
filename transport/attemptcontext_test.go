package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

type ownKey struct{}

// own is the context of an attempt below a caller's.
func own(caller context.Context, direct bool) *lifetime {
	return &lifetime{caller: caller, direct: direct}
}

// whatIsSeen uses a context in all the ways that package context has, before
// and after end ends it, and says what came of it.
func whatIsSeen(ctx context.Context, end func()) (said []string) {
	say := func(what string, ctx context.Context) {
		select {
		case <-ctx.Done():
			said = append(said, fmt.Sprintf("%s: done, %v, cause %v", what, ctx.Err(), context.Cause(ctx)))
		default:
			said = append(said, fmt.Sprintf("%s: %v", what, ctx.Err()))
		}
	}
	plain, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	soon, cancelSoon := context.WithTimeout(ctx, time.Second)
	defer cancelSoon()
	below, cancelBelow := context.WithCancel(context.WithValue(ctx, ownKey{}, "ours"))
	defer cancelBelow()
	without := context.WithoutCancel(ctx)
	left, leave := context.WithCancel(ctx)
	leave()
	var called, stopped atomic.Int32
	context.AfterFunc(ctx, func() { called.Add(1) })
	stop := context.AfterFunc(ctx, func() { stopped.Add(1) })
	said = append(said, fmt.Sprint("stopped ", stop(), stop()))
	children := func() {
		synctest.Wait()
		say("itself", ctx)
		say("child", plain)
		say("timeout", soon)
		say("child of a value", below)
		say("without cancel", without)
		say("that left", left)
		said = append(said, fmt.Sprint("called ", called.Load(), stopped.Load(), ctx.Value(ownKey{}), below.Value(ownKey{})))
	}
	children()
	deadline, ok := ctx.Deadline()
	said = append(said, fmt.Sprint(ok, deadline))
	end()
	children()
	late, cancelLate := context.WithCancel(ctx)
	defer cancelLate()
	say("late child", late)
	context.AfterFunc(ctx, func() { called.Add(1) })
	synctest.Wait()
	return append(said, fmt.Sprint("called ", called.Load()))
}

// TestAttemptIsAContext as package context's are, whoever ends it: seen from
// below there is no difference.
func TestAttemptIsAContext(t *testing.T) {
	errWhy := errors.New("the caller's reason")
	value := func() context.Context { return context.WithValue(context.Background(), ownKey{}, "caller's") }
	for name, begin := range map[string]func(*testing.T) (caller context.Context, ends func()){
		"under one that never ends": func(*testing.T) (context.Context, func()) { return value(), nil },
		"under one that does not end": func(t *testing.T) (context.Context, func()) {
			ctx, cancel := context.WithCancel(value())
			t.Cleanup(cancel)
			return ctx, nil
		},
		"the caller cancels": func(*testing.T) (context.Context, func()) { return context.WithCancel(value()) },
		"the caller's time is over": func(t *testing.T) (context.Context, func()) {
			ctx, cancel := context.WithTimeout(value(), time.Minute)
			t.Cleanup(cancel)
			return ctx, func() { time.Sleep(time.Minute) }
		},
		"the caller says why": func(*testing.T) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(value())
			return ctx, func() { cancel(errWhy) }
		},
		"the caller's is not of package context": func(*testing.T) (context.Context, func()) {
			f := &foreign{Context: value(), done: make(chan struct{})}
			return f, func() { close(f.done) }
		},
		"the caller's has ended and is not of package context": func(*testing.T) (context.Context, func()) {
			f := &foreign{Context: value(), done: make(chan struct{})}
			close(f.done)
			return f, func() {}
		},
		"the caller cancelled before": func(*testing.T) (context.Context, func()) {
			ctx, cancel := context.WithCancel(value())
			cancel()
			return ctx, cancel
		},
	} {
		for _, direct := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, over net/http %v", name, direct), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					caller, ends := begin(t)
					theirs, cancel := context.WithCancelCause(caller)
					defer cancel(nil)
					if ends == nil {
						ends = func() { cancel(nil) }
					}
					want := whatIsSeen(theirs, ends)

					time.Sleep(time.Hour - time.Since(began))
					caller, ends = begin(t)
					a := own(caller, direct)
					defer a.end(nil)
					if ends == nil {
						ends = func() { a.end(nil) }
					}
					got := whatIsSeen(a, ends)
					if len(got) != len(want) {
						t.Fatalf("%q, want %q", got, want)
					}
					for i := range got {
						if d, ok := caller.Deadline(); ok && want[i] == fmt.Sprint(true, d.Add(-time.Hour)) {
							want[i] = fmt.Sprint(true, d)
						}
						if got[i] != want[i] {
							t.Errorf("%s; package context: %s", got[i], want[i])
						}
					}
				})
			})
		}
	}
}

// foreign is a context of somebody else's kind.
type foreign struct {
	context.Context
	done chan struct{}
}

func (f *foreign) Done() <-chan struct{} { return f.done }

func (f *foreign) Err() error {
	select {
	case <-f.done:
		return errOther
	default:
		return nil
	}
}

// TestChildrenOfAnAttemptThatEnds come and go from all sides while it ends:
// each has ended afterwards, and none is left in the list.
func TestChildrenOfAnAttemptThatEnds(t *testing.T) {
	for i := range 200 {
		caller, cancelCaller := context.WithCancel(context.Background())
		a := own(caller, i%2 == 0)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for range 5 {
					ctx, cancel := context.WithCancel(a)
					if i%2 == 0 {
						cancel()
					}
					<-ctx.Done()
					cancel()
				}
			})
		}
		all.Go(func() { a.end(nil) })
		all.Go(cancelCaller)
		all.Wait()
		a.mu.Lock()
		if a.follows != nil {
			t.Error("something still follows")
		}
		a.mu.Unlock()
	}
}

// TestFollowers: each is told once of the end, also one that comes after it,
// and not if it was stopped before.
func TestFollowers(t *testing.T) {
	a := own(context.Background(), true)
	told := make(chan string, 10)
	first := a.AfterFunc(func() { told <- "first" })
	second := a.AfterFunc(func() { told <- "second" })
	if !second() || second() {
		t.Error("it is stopped once, and before the end")
	}
	a.end(nil)
	a.end(nil)
	last := a.AfterFunc(func() { told <- "last" })
	if first() || last() {
		t.Error("it was stopped after the end")
	}
	if got := []string{<-told, <-told}; !slices.Equal(got, []string{"first", "last"}) || len(told) > 0 {
		t.Errorf("told of the end: %q and %d more", got, len(told))
	}
}

// TestDoneAfterTheEnd: who asks only then learns of it, and nobody learns of it
// from Err while Done is open.
func TestDoneAfterTheEnd(t *testing.T) {
	for _, direct := range []bool{true, false} {
		ended := own(context.Background(), direct)
		ended.end(nil)
		caller, cancel := context.WithCancel(context.Background())
		left := own(caller, direct)
		left.Done()
		cancel()
		if err := left.Err(); err != context.Canceled {
			t.Errorf("over net/http %v: %v after the caller's end", direct, err)
		}
		for _, l := range []*lifetime{ended, left} {
			select {
			case <-l.Done():
			default:
				t.Errorf("over net/http %v: Done is open, and Err is %v", direct, l.Err())
			}
		}
	}
}

// TestErrTakesNoCause: who asks Err while the caller's end is on its way down does
// not end the attempt without the caller's cause.
func TestErrTakesNoCause(t *testing.T) {
	for range 50 {
		caller, cancel := context.WithCancelCause(context.Background())
		for range 500 { // others of the caller's, which are told first
			_, leave := context.WithCancel(caller)
			defer leave()
		}
		l := own(caller, false)
		l.Done()
		var all sync.WaitGroup
		all.Go(func() {
			for l.Err() == nil {
			}
			<-l.Done()
		})
		cancel(errOther)
		all.Wait()
		if cause := context.Cause(l); cause != errOther {
			t.Fatalf("the cause is %v", cause)
		}
	}
}

// TestCauseOfAnAttempt: a base that is not net/http's can ask why its time is
// over, whether it asked for Done before or not.
func TestCauseOfAnAttempt(t *testing.T) {
	for _, before := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var cause error
			tr, _ := through(t, policies.Policy{Timeout: &policies.Timeout{Attempt: time.Second}, Retry: &policies.Retry{Disabled: true}},
				answer{do: func(req *http.Request) (*http.Response, error) {
					ctx := req.Context()
					if before {
						<-ctx.Done()
					}
					time.Sleep(2 * time.Second)
					<-ctx.Done()
					cause = context.Cause(ctx)
					return nil, ctx.Err()
				}})
			if _, err := tr.RoundTrip(get(t)); !errors.Is(err, ErrAttemptTimeout) || !errors.Is(cause, ErrAttemptTimeout) {
				t.Errorf("asked before %v: %v, cause %v", before, err, cause)
			}
		})
	}
}
