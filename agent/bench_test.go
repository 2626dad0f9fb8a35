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
