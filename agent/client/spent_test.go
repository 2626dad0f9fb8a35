//go:build linux

package client

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// Where a bucket is full beside the token that was just spent, what it earns
// until the agent sees that is lost: so the agent is told, unless it is asked
// for more in the same moment, or the bucket has room for longer than the
// agent takes to look by itself.
func TestSpentTokensAreTold(t *testing.T) {
	for name, one := range map[string]struct {
		rate    policies.Rate
		burst   int
		callers int
		want    []string
	}{
		"burst of one":               {200, 1, 1, []string{"want", "free"}},
		"of a slow rate":             {0.1, 1, 1, []string{"want", "free"}},
		"and another waits":          {200, 1, 2, []string{"want", "want"}},
		"room for 5 ms":              {200, 2, 1, []string{"want"}},
		"room for less":              {1000, 5, 1, []string{"want", "free"}},
		"room for a day, of a large": {policies.MaxLimit, policies.MaxLimit, 1, []string{"want"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t)
				l := d.s.Limits("a", resolved(t, rateLimit(one.rate, one.burst, time.Second)))
				c, _ := d.assign(wire.RateLimit, 0, 1, 0)
				d.said()
				for range one.callers {
					go l.Take(t.Context())
					synctest.Wait()
				}
				c.Grant(1, 1)
				d.wake(0)
				if said := d.said(); !slices.Equal(said, one.want) {
					t.Errorf("the session said %v, want %v", said, one.want)
				}
				c.Grant(1, 1) // for the other
				d.wake(0)
				synctest.Wait()
			})
		})
	}
}
