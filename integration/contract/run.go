package contract

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Wrap makes the round tripper under test over a base. Each call makes a new
// one with no history.
type Wrap func(base http.RoundTripper) http.RoundTripper

// Options say what is under test. The zero value is for one that changes
// nothing.
type Options struct {
	// Upstream to call. Nil: Run starts one.
	Upstream *Upstream
	// Bare leaves out the points that ask more than http.Transport promises.
	Bare bool
	// Quick leaves out the points that take long.
	Quick bool
	// Patience is how long anything may take before it counts as hanging. Zero:
	// 5 s.
	Patience time.Duration
	// Adds are the header fields that the round tripper may add to a request.
	Adds []string
	// Answers says that failures may be answered in the upstream's place.
	Answers bool
	// Apart is for a comparison: each fault counts where it belongs. A request
	// body that is not closed counts in the points about closing only, and an
	// error may say more than the bare transport's if it says that too.
	Apart bool
	// Refusing makes, by name, round trippers that say no to every request.
	Refusing map[string]Wrap
	// Hooked makes one that calls hook in the course of every request. Nil:
	// there is none.
	Hooked func(base http.RoundTripper, hook func()) http.RoundTripper
}

// Point is one thing to be held to.
type Point struct {
	Name   string
	Beyond bool // asks more than http.Transport promises
	Heavy  bool // takes long
	Closes bool // is about the closing of request bodies
	Test   func(*T)
}

// Points are all there are.
func Points() []Point {
	return slices.Concat(requestPoints, closingPoints, redirectPoints, responsePoints,
		streamPoints, tracePoints, endPoints, panicPoints)
}

// Run takes what wrap makes through every point, each as a subtest.
func Run(t *testing.T, wrap Wrap, o Options) {
	t.Helper()
	if o.Upstream == nil {
		o.Upstream = Start()
		t.Cleanup(o.Upstream.Close)
	}
	for _, p := range Points() {
		if p.Beyond && o.Bare || p.Heavy && o.Quick {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			for _, f := range Check(p, wrap, o) {
				t.Error(f)
			}
		})
	}
}

// Check does one point and says what is wrong; nothing if all is well. A panic
// and a point that never ends are findings too. Options.Upstream must be set.
func Check(p Point, wrap Wrap, o Options) []string {
	t := &T{name: p.Name, wrap: wrap, o: o, up: o.Upstream, patience: o.Patience, closes: p.Closes || !o.Apart}
	if t.patience == 0 || p.Heavy {
		t.patience = max(t.patience, 5*time.Second)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.end()
		defer func() {
			if v := recover(); v != nil {
				t.Errorf("panic: %v", v)
			}
		}()
		p.Test(t)
	}()
	timer := time.NewTimer(6 * t.patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Errorf("it hangs")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.findings)
}

// T is a point under way. Its methods may be called by several goroutines.
type T struct {
	name string
	wrap Wrap
	o    Options
	up   *Upstream

	patience time.Duration
	closes   bool // request bodies that are not closed count

	mu       sync.Mutex
	findings []string
	cleanups []func()
	bodies   []*upload
	below    *http.Transport // what is tested, in same
}

// Errorf notes a finding.
func (t *T) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.findings = append(t.findings, fmt.Sprintf(format, args...))
}

// Fatalf notes a finding and ends the point.
func (t *T) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// cleanup runs f at the end of the point, last one first.
func (t *T) cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

// end cleans up and then looks at the request bodies once more: a second Close
// may have come late.
func (t *T) end() {
	for {
		t.mu.Lock()
		n := len(t.cleanups)
		if n == 0 {
			t.mu.Unlock()
			break
		}
		f := t.cleanups[n-1]
		t.cleanups = t.cleanups[:n-1]
		t.mu.Unlock()
		f()
	}
	late, cancel := context.WithTimeout(context.Background(), t.patience/5) // for all of them together
	defer cancel()
	for _, b := range t.bodies {
		b.verdict(t, late)
	}
}

// base is a bare transport of this point's own.
func (t *T) base() *http.Transport {
	tr := &http.Transport{ExpectContinueTimeout: t.patience}
	t.cleanup(tr.CloseIdleConnections)
	return tr
}

// same runs an exchange on a bare transport and then through the round tripper
// under test, and compares the transcripts.
func (t *T) same(what string, run func(rt http.RoundTripper, say func(format string, args ...any))) {
	if t.below == nil {
		t.below = t.base()
	}
	t.compare(what, func() http.RoundTripper { return t.base() }, t.below, run)
}

// same2 is same over the shared HTTP/2 transport.
func (t *T) same2(what string, run func(rt http.RoundTripper, say func(format string, args ...any))) {
	t.compare(what, func() http.RoundTripper { return t.up.h2 }, t.up.h2, run)
}

// compare says where the transcripts part. The bare one is made once for each
// upstream: it does not depend on what is tested.
func (t *T) compare(what string, bare func() http.RoundTripper, below http.RoundTripper,
	run func(rt http.RoundTripper, say func(format string, args ...any))) {
	transcript := func(rt http.RoundTripper) (lines []string) {
		run(rt, func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) })
		return lines
	}
	want := t.up.oracle(fmt.Sprint(t.name, what, t.o.Adds, t.o.Apart), func() []string { return transcript(bare()) })
	got := transcript(t.wrap(below))
	for i := range max(len(want), len(got)) {
		a, b := "nothing", "nothing"
		if i < len(want) {
			a = want[i]
		}
		if i < len(got) {
			b = got[i]
		}
		if a != b && !(t.o.Apart && saysToo(b, a)) {
			t.Errorf("%s: got %s; bare: %s", what, b, a)
			return
		}
	}
}

// saysToo says whether both lines are of errors of no kind that callers ask
// for, and the first has the other's text in its own.
func saysToo(got, bare string) bool {
	_, gotText, ok := strings.Cut(got, unknown)
	_, text, both := strings.Cut(bare, unknown)
	return ok && both && strings.Contains(gotText, strings.TrimSuffix(text, ")"))
}

// within runs f and says if it does not end.
func (t *T) within(what string, f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Fatalf("%s: it hangs", what)
	}
}
