package clients

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stripe/stripe-go/v82"

	"github.com/resagent/resagent/transport"
)

// reset, among statuses, ends the connection without an answer.
const reset = 0

// payments is an upstream that answers with its statuses in order, the last
// one for ever, and remembers keys and bodies.
type payments struct {
	statuses []int

	mu     sync.Mutex
	keys   []string
	bodies []string
}

func (p *payments) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	status := p.statuses[min(len(p.keys), len(p.statuses)-1)]
	p.keys = append(p.keys, r.Header.Get("Idempotency-Key"))
	p.bodies = append(p.bodies, string(data))
	p.mu.Unlock()
	if status == reset {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	if status == http.StatusOK {
		io.WriteString(w, `{"id": "cus_1", "object": "customer", "email": "ada@example.com"}`)
		return
	}
	io.WriteString(w, `{"error": {"type": "api_error", "message": "no"}}`)
}

// TestStripe: a client with its own retries and its own idempotency keys.
func TestStripe(t *testing.T) {
	for _, tc := range []struct {
		name     string
		statuses []int
		attempts int    // at the upstream
		retried  int    // by us
		fails    string // in the error's words; empty: it does not
	}{
		{name: "it works", statuses: []int{200}, attempts: 1},
		{name: "two failures are ours to repeat", statuses: []int{503, 503, 200}, attempts: 3, retried: 2},
		{name: "two resets are ours to repeat", statuses: []int{reset, reset, 200}, attempts: 3, retried: 2},
		{name: "four resets take the client's own retry", statuses: []int{reset, reset, reset, reset, 200}, attempts: 5, retried: 3},
		{name: "a refusal is nobody's to repeat", statuses: []int{402}, attempts: 1, fails: "no"},
		{name: "a conflict is not ours to repeat", statuses: []int{409}, attempts: 1, fails: "no"},
		{name: "an outage, in the upstream's own words", statuses: []int{503}, attempts: 3, retried: 2, fails: "no"},
		// Three attempts of ours for each of its own two.
		{name: "both give up", statuses: []int{reset}, attempts: 6, retried: 4, fails: "EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &payments{statuses: tc.statuses}
			srv := httptest.NewServer(p)
			defer srv.Close()
			plain, events := ours(t)
			c := stripe.NewClient("sk_test", stripe.WithBackends(stripe.NewBackendsWithConfig(&stripe.BackendConfig{
				HTTPClient: plain, URL: stripe.String(srv.URL), MaxNetworkRetries: stripe.Int64(1),
				LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull}, EnableTelemetry: stripe.Bool(false),
			})))
			got, err := c.V1Customers.Create(t.Context(), &stripe.CustomerCreateParams{Email: stripe.String("ada@example.com")})
			switch {
			case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
				t.Errorf("got %v, want an error with %q", err, tc.fails)
			case tc.fails == "" && (err != nil || got.Email != "ada@example.com"):
				t.Errorf("got %v, %v", got, err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.keys) != tc.attempts || events.of(transport.Retrying) != tc.retried {
				t.Errorf("%d attempts, %d retries of ours; want %d and %d", len(p.keys), events.of(transport.Retrying), tc.attempts, tc.retried)
			}
			if p.keys[0] == "" || len(slices.Compact(p.keys)) != 1 || len(slices.Compact(p.bodies)) != 1 {
				t.Errorf("keys %q and bodies %q are not the same in every attempt", p.keys, p.bodies)
			}
		})
	}
}
