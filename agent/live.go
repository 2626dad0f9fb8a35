//go:build linux

package agent

import "context"

// Live has the allocator take one turn, and returns nil once it has: proof
// that the agent gets at its own state and decides, not only that its process
// runs. It is what the watchdog of systemd is fed by. The error is ctx's: the
// agent is stuck, or does not run. Safe for concurrent use.
func (a *Agent) Live(ctx context.Context) error {
	turned := make(chan struct{})
	select {
	case a.asked() <- turned:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-turned:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// asked is the channel by which the loop is asked for a turn.
func (a *Agent) asked() chan chan struct{} {
	a.askedOnce.Do(func() { a.askedTurn = make(chan chan struct{}) })
	return a.askedTurn
}
