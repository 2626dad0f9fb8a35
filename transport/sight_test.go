package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := through(t, policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 2, OpenFor: time.Second}},
			answer{err: errReset}, answer{status: 503}, answer{status: 200})
		var got []string
		tr.Observe = func(e Event) {
			if e.Upstream != "upstream" || e.Authority != host {
				t.Errorf("event of %q at %q", e.Upstream, e.Authority)
			}
			got = append(got, fmt.Sprintf("%v %d %d", e.Kind, e.Attempt, e.Status))
		}
		tr.RoundTrip(request(t, "GET", nil))
		time.Sleep(2 * time.Second)
		tr.RoundTrip(request(t, "GET", nil))
		want := []string{
			"attempt 1 0", "retrying 1 0",
			"attempt 2 503", "circuit opened 2 0", "not retried 2 503",
			"attempt 1 200", "circuit closed 1 0",
		}
		if !slices.Equal(got, want) {
			t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestEventContext: a hook finds the caller's span in the call's context, and
// an event names its authority also where there is no circuit.
func TestEventContext(t *testing.T) {
	tr, _ := through(t, policies.Policy{CircuitBreaker: &policies.CircuitBreaker{Disabled: true}}, answer{status: 200})
	told := 0
	tr.Observe = func(e Event) {
		told++
		if e.Context.Value(spanKey{}) != "span" || e.Authority != host {
			t.Errorf("event %v has span %v and authority %q", e.Kind, e.Context.Value(spanKey{}), e.Authority)
		}
	}
	req := request(t, "GET", nil)
	req.URL.Host = "UPSTREAM.test:80"
	if _, err := tr.RoundTrip(req.WithContext(context.WithValue(req.Context(), spanKey{}, "span"))); err != nil || told != 1 {
		t.Errorf("%d events, %v", told, err)
	}
}

func TestLogIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tr, _ := through(t, policies.Policy{
			Fallback: &policies.Fallback{Static: &policies.Static{Body: "x"}}, Retry: &policies.Retry{Disabled: true},
		}, answer{err: errReset})
		tr.Logger = slog.New(slog.NewTextHandler(&out, nil))
		for range 10 {
			tr.RoundTrip(request(t, "GET", nil))
		}
		time.Sleep(time.Second)
		tr.RoundTrip(request(t, "GET", nil))
		if n := strings.Count(out.String(), "fallback served"); n != 2 {
			t.Errorf("%d lines, want 2:\n%s", n, out.String())
		}
		if !strings.Contains(out.String(), "not_logged=9") {
			t.Errorf("the lines left out are not counted:\n%s", out.String())
		}
	})
}

// spanKey is where a caller's tracing keeps a span.
type spanKey struct{}

// spanHandler is a slog.Handler that tells of the span of what is logged.
type spanHandler struct {
	slog.Handler
	spans *[]any
}

func (h spanHandler) Handle(ctx context.Context, r slog.Record) error {
	*h.spans = append(*h.spans, ctx.Value(spanKey{}))
	return h.Handler.Handle(ctx, r)
}

// TestLogKnowsTheCall: handlers that write trace IDs find them in the context.
func TestLogKnowsTheCall(t *testing.T) {
	var spans []any
	tr, _ := through(t, once(policies.Policy{Fallback: &policies.Fallback{Static: &policies.Static{Body: "x"}}}), answer{err: errReset})
	tr.Logger = slog.New(spanHandler{slog.NewTextHandler(io.Discard, nil), &spans})
	req := request(t, "GET", nil)
	if _, err := tr.RoundTrip(req.WithContext(context.WithValue(req.Context(), spanKey{}, "span"))); err != nil {
		t.Fatal(err)
	}
	if len(spans) != 1 || spans[0] != "span" {
		t.Errorf("logged with %v, want the call's span", spans)
	}
}

func TestWithUpstream(t *testing.T) {
	set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{
		"a": {Match: []policies.Match{{Host: "upstream.test"}}}, "b": {}}})
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	s := &script{answers: []answer{{status: 200}}}
	tr := &Transport{Base: s, Policies: set, Agent: alone(t), Observe: func(e Event) {
		if e.Kind == NotApplied {
			events = append(events, e)
		}
	}}
	for name, want := range map[string]string{"": "a", "b": "b", "missing": "a"} {
		var info Info
		ctx := WithInfo(context.Background(), &info)
		if name != "" {
			ctx = WithUpstream(ctx, name)
		}
		for range 2 {
			if _, err := tr.RoundTrip(request(t, "GET", nil).WithContext(ctx)); err != nil {
				t.Fatal(err)
			}
		}
		if info.Upstream != want {
			t.Errorf("named %q: upstream %q, want %q", name, info.Upstream, want)
		}
	}
	if len(events) != 1 || events[0].Upstream != "missing" {
		t.Errorf("events %+v, want one about the missing upstream", events)
	}
}

// TestSharedCircuit: two transports of one session share circuits, and a
// policy that leaves the section alone leaves its state alone.
func TestSharedCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := once(policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1}})
		tr, s := through(t, p, answer{err: errReset})
		tr.RoundTrip(request(t, "GET", nil))

		p.Timeout = &policies.Timeout{Total: time.Minute}
		other := &Transport{Base: s, Agent: tr.Agent, Policies: compile(t, named(p))}
		if _, err := other.RoundTrip(request(t, "GET", nil)); err == nil || s.count() != 1 {
			t.Errorf("the other transport: %v after %d attempts, want it refused", err, s.count())
		}
		p.CircuitBreaker = &policies.CircuitBreaker{ConsecutiveFailures: 2}
		changed := &Transport{Base: s, Agent: tr.Agent, Policies: compile(t, named(p))}
		changed.RoundTrip(request(t, "GET", nil))
		if s.count() != 2 {
			t.Error("a changed section did not begin a new circuit")
		}
	})
}

// TestCircuitPerAuthority: one host's failure is not another's.
func TestCircuitPerAuthority(t *testing.T) {
	set, err := policies.Compile(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"all": once(policies.Policy{
		Match: []policies.Match{{Host: "*"}}, CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1}})}})
	if err != nil {
		t.Fatal(err)
	}
	s := &script{answers: []answer{{err: errReset}}}
	for _, tr := range []*Transport{{Base: s, Agent: alone(t), Policies: set}} {
		for _, u := range []string{"http://a", "http://b", "https://a", "http://a:81", "http://A:80"} {
			req, err := http.NewRequest("GET", u, nil)
			if err != nil {
				t.Fatal(err)
			}
			tr.RoundTrip(req)
		}
	}
	if s.count() != 4 {
		t.Errorf("%d attempts, want 4: the last is the first's authority", s.count())
	}
}

// TestAuthoritiesAreBounded: and what is open is kept.
func TestAuthoritiesAreBounded(t *testing.T) {
	sh := newShared().(*shared)
	now := time.Now()
	at := func(i int, now time.Time) *authority {
		req, err := http.NewRequest("GET", fmt.Sprintf("http://host%d/", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		return sh.authority(nil, req.URL, nil, now)
	}
	first := at(0, now)
	for range 20 {
		one(first.breaker, failure)
	}
	if first.breaker.state() != open {
		t.Fatal("not open")
	}
	for i := range maxAuthorities + 500 {
		at(i+1, now.Add(time.Hour))
	}
	if n := len(sh.authorities); n != maxAuthorities {
		t.Errorf("%d authorities are kept, want %d", n, maxAuthorities)
	}
	if at(0, now) != first {
		t.Error("an open circuit was forgotten before closed ones")
	}
}

// TestConnections: an upstream's own pool, kept while its section is the same,
// and said aloud where the base has no pools.
func TestConnections(t *testing.T) {
	p := policies.Policy{Connections: &policies.Connections{MaxPerHost: 7}}
	base := &http.Transport{}
	tr := &Transport{Base: base, Policies: compile(t, named(p)), Agent: alone(t)}
	pool := func() *http.Transport {
		t.Helper()
		up, _ := tr.find(tr.session(), tr.tableFor(tr.session()), request(t, "GET", nil), time.Now())
		if up.base == nil {
			return nil
		}
		return up.base.(*http.Transport)
	}
	own := pool()
	if own == nil || own == base || own.MaxConnsPerHost != 7 {
		t.Fatalf("the upstream's pool is %+v", own)
	}
	p.Timeout = &policies.Timeout{Total: time.Minute}
	if tr.Policies = compile(t, named(p)); pool() != own {
		t.Error("a change elsewhere replaced the pool")
	}
	p.Connections = &policies.Connections{MaxPerHost: 8}
	if tr.Policies = compile(t, named(p)); pool() == own || pool().MaxConnsPerHost != 8 {
		t.Error("a change of the section did not replace the pool")
	}
	p.Connections = nil
	if tr.Policies = compile(t, named(p)); pool() != nil || len(tr.pools) != 0 {
		t.Error("the pool outlived its section")
	}

	p.Connections = &policies.Connections{MaxPerHost: 8}
	var events []Event
	odd := &Transport{Base: noop{}, Policies: compile(t, named(p)), Agent: alone(t), Observe: func(e Event) {
		if e.Kind == NotApplied {
			events = append(events, e)
		}
	}}
	for range 3 {
		if _, err := odd.RoundTrip(request(t, "GET", nil)); err != nil {
			t.Fatal(err)
		}
	}
	if len(events) != 1 || !strings.Contains(events[0].Detail, "*http.Transport") {
		t.Errorf("events %+v, want one that says why", events)
	}
}

// TestDefaultSession: the zero value uses the process's one.
func TestDefaultSession(t *testing.T) {
	if (&Transport{}).session() != client.Default() {
		t.Error("not client.Default()")
	}
}

func TestErrorTexts(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&RejectedError{Upstream: "p", Reason: ErrCircuitOpen, RetryAfter: 1500 * time.Millisecond},
			"transport: p: circuit open, try again in 1.5s"},
		{&RejectedError{Upstream: "p", Reason: ErrBulkheadFull, Detail: "queue", LastStatus: 503, LastErr: errReset},
			"transport: p: bulkhead full (queue); the last attempt was answered 503; the last attempt: connection reset by peer"},
		{newTimeout(ErrIdleTimeout, "p", time.Second), "transport: p: idle timeout of 1s passed"},
		{budgetError{errReset}, "connection reset by peer (not retried: retry budget used up)"},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}
