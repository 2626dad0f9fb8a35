//go:build linux

package agent_test

import (
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// BenchmarkPermit is acquire and release of a permit that the process holds.
func BenchmarkPermit(b *testing.B) {
	set := bulkhead(64, 64, time.Second)
	b.Run("host", func(b *testing.B) {
		benchmarkPermit(b, limitsOf(newHost(b, set).session(), "shop"))
	})
	b.Run("process", func(b *testing.B) {
		s, err := policies.Compile(set)
		if err != nil {
			b.Fatal(err)
		}
		benchmarkPermit(b, client.Local(&s.Named("shop").Policy))
	})
}

func benchmarkPermit(b *testing.B, l *client.Limits) {
	ctx := b.Context()
	for b.Loop() {
		p, err := l.Acquire(ctx)
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
}

// A permit of the host costs no allocation while it is to be had.
func TestPermitAllocatesNothing(t *testing.T) {
	l := limitsOf(newHost(t, bulkhead(64, 64, time.Second)).session(), "shop")
	take := func() {
		p, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.Release()
	}
	take() // the agent grants
	if n := testing.AllocsPerRun(1000, take); n != 0 {
		t.Errorf("a permit allocates %v times, want 0", n)
	}
}
