package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/transport"
)

// The zero value retries what may be retried and breaks circuits.
func Example() {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "hello")
	}))
	defer server.Close()

	client := &http.Client{Transport: &transport.Transport{}}
	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%d %s after %d calls\n", resp.StatusCode, body, calls.Load())
	// Output: 200 hello after 2 calls
}

// A policy of the program's own, for where no agent runs; and what became of a
// call.
func ExampleTransport() {
	snapshot, err := policies.Compile(&policies.Set{
		Version: 1,
		Upstreams: map[string]policies.Policy{
			"reports": {
				Match:    []policies.Match{{Host: "127.0.0.1"}},
				Timeout:  &policies.Timeout{Attempt: 2 * time.Second, Total: 5 * time.Second},
				Retry:    &policies.Retry{MaxAttempts: 2, Backoff: policies.Backoff{Base: time.Millisecond}},
				Fallback: &policies.Fallback{Static: &policies.Static{Body: "[]", ContentType: "application/json"}},
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer server.Close()

	var info transport.Info
	ctx := transport.WithInfo(context.Background(), &info)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: &transport.Transport{Policies: snapshot}}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s\n%s: %d attempts, served: %s\n", body, info.Upstream, info.Attempts, info.Served)
	// Output:
	// []
	// reports: 2 attempts, served: static
}

// Observe hears of all that happens on a call's way: here for counters.
func ExampleTransport_observe() {
	var mu sync.Mutex
	counts := map[transport.Kind]int{} // by e.Upstream too, in a real program
	client := &http.Client{Transport: &transport.Transport{Observe: func(e transport.Event) {
		mu.Lock()
		defer mu.Unlock()
		counts[e.Kind]++
	}}}
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()

	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(counts[transport.Attempted], "attempts,", counts[transport.Retrying], "of them retries")
	// Output: 2 attempts, 1 of them retries
}

// This host's own no is told from the upstream's failure by its type.
func ExampleRejectedError() {
	snapshot, err := policies.Compile(&policies.Set{
		Version: 1,
		Upstreams: map[string]policies.Policy{
			"slow": {RateLimit: &policies.RateLimit{Rate: 0.1, Burst: 1, MaxWait: policies.None}},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()

	client := &http.Client{Transport: &transport.Transport{Policies: snapshot}}
	ctx := transport.WithUpstream(context.Background(), "slow")
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp, err := client.Do(req)
		if no, ok := errors.AsType[*transport.RejectedError](err); ok {
			fmt.Println(no.Upstream, "refused:", errors.Is(err, transport.ErrRateLimited))
			continue
		}
		fmt.Println(resp.StatusCode)
		resp.Body.Close()
	}
	// Output:
	// 404
	// slow refused: true
}
