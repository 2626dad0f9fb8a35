package clients

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/gojek/heimdall/v7"
	"github.com/gojek/heimdall/v7/httpclient"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/resagent/resagent/integration/contract"
	"github.com/resagent/resagent/transport"
)

// peer is one round tripper of the comparison, with 3 attempts and short waits.
type peer struct {
	name string
	wrap contract.Wrap
}

var peers = []peer{
	{"bare", func(base http.RoundTripper) http.RoundTripper { return base }},
	{"resagent", func(base http.RoundTripper) http.RoundTripper {
		return &transport.Transport{Base: base, Policies: quick, Agent: alone()}
	}},
	{"go-retryablehttp", func(base http.RoundTripper) http.RoundTripper {
		c := retryablehttp.NewClient()
		c.HTTPClient = &http.Client{Transport: base}
		c.Logger, c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = nil, 2, time.Millisecond, time.Millisecond
		return &retryablehttp.RoundTripper{Client: c}
	}},
	{"failsafe-go", func(base http.RoundTripper) http.RoundTripper {
		return failsafehttp.NewRoundTripper(base,
			failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(2).WithDelay(time.Millisecond).Build(),
			circuitbreaker.NewBuilder[*http.Response]().WithFailureThreshold(1000).Build(),
			bulkhead.New[*http.Response](4),
			timeout.New[*http.Response](20*time.Second))
	}},
	{"heimdall", func(base http.RoundTripper) http.RoundTripper {
		return doer{httpclient.NewClient(
			httpclient.WithHTTPClient(&http.Client{Transport: base}),
			httpclient.WithRetryCount(2),
			httpclient.WithRetrier(heimdall.NewRetrier(heimdall.NewConstantBackoff(time.Millisecond, time.Millisecond))))}
	}},
}

// doer makes a round tripper of heimdall's client, which is none.
type doer struct{ *httpclient.Client }

func (d doer) RoundTrip(req *http.Request) (*http.Response, error) { return d.Do(req) }

// TestPeers prints what holds for whom. A peer that differs is a row, not a
// failure; the bare transport and ours must hold everywhere.
func TestPeers(t *testing.T) {
	up := contract.Start()
	t.Cleanup(up.Close)
	points := contract.Points()
	results := make([][]string, len(points)) // by point and peer: the first finding, "" if it holds
	for i := range points {
		results[i] = make([]string, len(peers))
	}
	for n, p := range peers { // one after the other: some points count what is allocated
		o := contract.Options{Upstream: up, Bare: p.name == "bare"}
		if n >= 2 {
			o.Patience, o.Apart = time.Second, true
		}
		for i, point := range points {
			if o.Bare && point.Beyond {
				results[i][n] = "-"
				continue
			}
			results[i][n] = strings.Join(contract.Check(point, p.wrap, o), "\n")
		}
	}

	var table strings.Builder
	fmt.Fprintf(&table, "\n%-68s", "")
	for _, p := range peers {
		fmt.Fprintf(&table, "%-18s", p.name)
	}
	for i, point := range points {
		fmt.Fprintf(&table, "\n%-68s", point.Name)
		for n := range peers {
			fmt.Fprintf(&table, "%-18s", mark(results[i][n]))
		}
	}
	t.Log(table.String())
	for i, point := range points {
		for n, p := range peers {
			switch found := results[i][n]; {
			case found == "" || found == "-":
			case n < 2:
				t.Errorf("%s: %s: %s", p.name, point.Name, found)
			default:
				first, _, _ := strings.Cut(found, "\n")
				t.Logf("%s: %s: %.200s", p.name, point.Name, first)
			}
		}
	}
}

func mark(found string) string {
	switch found {
	case "":
		return "yes"
	case "-":
		return "(not promised)"
	}
	return fmt.Sprintf("NO (%d)", strings.Count(found, "\n")+1)
}
