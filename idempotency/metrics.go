package idempotency

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Metrics counts the events of one Handler or of several:
//
//	metrics := new(idempotency.Metrics)
//	options.Observe = metrics.Observe
//	http.Handle("GET /metrics", metrics)
//
// Its zero value is ready to use. It is safe for concurrent use, and must not
// be copied.
type Metrics struct {
	kinds [kinds]atomic.Uint64
	runs  atomic.Uint64
	took  atomic.Int64 // nanoseconds
}

// Observe is for [Options.Observe].
func (m *Metrics) Observe(e Event) {
	if e.Kind >= kinds {
		e.Kind = 0
	}
	m.kinds[e.Kind].Add(1)
	if e.Took > 0 {
		m.runs.Add(1)
		m.took.Add(int64(e.Took))
	}
}

// Count gives how many events of a kind there were; 0 for one that it does not
// know.
func (m *Metrics) Count(k Kind) uint64 {
	if k >= kinds {
		return 0
	}
	return m.kinds[k].Load()
}

// ServeHTTP writes the counts in Prometheus's text format.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	b.WriteString("# HELP idempotency_events_total What was decided on requests with an idempotency key.\n# TYPE idempotency_events_total counter\n")
	for k := Started; k < kinds; k++ {
		fmt.Fprintf(&b, "idempotency_events_total{kind=%q} %d\n", k, m.Count(k))
	}
	b.WriteString("# HELP idempotency_handler_seconds How long handlers ran that have ended.\n# TYPE idempotency_handler_seconds summary\n")
	fmt.Fprintf(&b, "idempotency_handler_seconds_sum %g\nidempotency_handler_seconds_count %d\n", time.Duration(m.took.Load()).Seconds(), m.runs.Load())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(b.String())) // a client that has gone does not read it
}
