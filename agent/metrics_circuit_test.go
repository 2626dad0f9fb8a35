//go:build linux

package agent

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Circuits are counted by upstream and state; a peer's word, the authority,
// does not get into the text.
func TestCircuitMetrics(t *testing.T) {
	var b bytes.Buffer
	circuitMetrics(&b, []CircuitStatus{
		{Upstream: "a", Authority: "http://x\n", State: "open", Callers: 2},
		{Upstream: "a", Authority: "http://y", State: "open", Callers: 1, Forced: &Forced{To: "open"}},
		{Upstream: "b", Authority: "http://z", State: "half-open", Probes: 1, PausedUntil: time.Now()},
	})
	for _, want := range []string{
		`resagent_circuits{upstream="a",state="open"} 2`, `resagent_circuits{upstream="a",state="closed"} 0`,
		`resagent_circuits{upstream="a",state="forced"} 1`, `resagent_circuits{upstream="b",state="half-open"} 1`,
		`resagent_circuits{upstream="b",state="paused"} 1`, `resagent_circuit_probes{upstream="b"} 1`, `resagent_circuit_callers{upstream="a"} 3`,
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no line %s in\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "http://") {
		t.Errorf("an authority is in\n%s", &b)
	}
}
