package transport

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
)

// A probe whose time is over is cancelled, also where the attempt timeout is
// longer, and counts from when it was given; any other attempt goes on.
func TestProbeOutOfTimeIsCancelled(t *testing.T) {
	for given, want := range map[bool]time.Duration{true: client.ProbeTime, false: 25 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			tr := &Transport{Agent: alone(t), Policies: compile(t, named(policies.Policy{Timeout: &policies.Timeout{Attempt: 25 * time.Second}}))}
			c := &call{t: tr, req: get(t), ctx: t.Context(), start: time.Now()}
			c.policy()
			c.setDeadline()
			a := c.newAttempt()
			if given {
				a.probe = &probe{ends: client.ProbeTime}
			}
			a.startClock()
			<-a.life.Done()
			if took := c.since(); took != want {
				t.Errorf("probe %v: cancelled after %v, want %v", given, took, want)
			}
			if err := a.enter(headers); !errors.Is(err, ErrAttemptTimeout) {
				t.Errorf("probe %v: struck by %v", given, err)
			}
			a.ticket = spent
			a.finish(ignored)
		})
	}
}
