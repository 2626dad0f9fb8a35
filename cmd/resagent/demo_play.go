package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/resagent/resagent/agent"
)

const (
	usualLatency = 200 * time.Millisecond
	slowLatency  = 900 * time.Millisecond // callers wait for two turns of it: some longer than stale.after
	longLatency  = 400 * time.Millisecond
	// agentAway is how long a killed agent is left dead; systemd's RestartSec
	// in our unit is 50 ms.
	agentAway = 200 * time.Millisecond
)

// play is the demo's course.
type play struct {
	stage  *stage
	plan   plan
	random *rand.Rand
	view   *view

	agent     *actor
	upstreams [3]*actor // the first, the dead one, and the one that comes back
	workers   []*actor
	victim    int // the worker that is killed; -1: none yet
	serving   int // which upstream has the port
	story     story
}

// begin ends the scene before and begins one.
func (p *play) begin(name string) {
	now := monotonic()
	p.end(now)
	p.story.Scenes = append(p.story.Scenes, scene{Name: name, From: now, Stalled: -stalled()})
}

func (p *play) end(now time.Duration) {
	if n := len(p.story.Scenes); n > 0 {
		p.story.Scenes[n-1].To = now
		p.story.Scenes[n-1].Stalled += stalled()
	}
}

// stalled is for how long, since the host's boot, some process has waited for a
// processor (the kernel's pressure stall information, PSI); 0 where the kernel
// does not say.
func stalled() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	some, _, _ := strings.Cut(string(text), "\n")
	_, total, _ := strings.Cut(some, "total=")
	us, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// perform plays from beginning to end.
func (p *play) perform(ctx context.Context) error {
	p.story.Began = monotonic()
	p.victim, p.story.Victim = -1, -1
	for _, part := range []func(context.Context) error{
		p.open, p.first, p.killAgentUnderLoad, p.killWorker, p.lowerLimit, p.killUpstream, p.bringBack,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	p.end(monotonic())
	return nil
}

// open starts everybody.
func (p *play) open(ctx context.Context) error {
	s := p.stage
	if err := writeDemoPolicies(s.policies(), demoLimit, s.scope); err != nil {
		return err
	}
	if err := p.startAgent(ctx); err != nil {
		return err
	}
	for i, name := range [3]string{"upstream", "upstream-dead", "upstream-again"} {
		role := "upstream"
		if i == 1 {
			role = "dead"
		}
		a, err := s.start(name, true, "demo", "--role", role)
		if err != nil {
			return err
		}
		a.tape.head.Latency.Store(int64(usualLatency))
		p.upstreams[i] = a
	}
	if err := p.upstreams[0].serve(); err != nil {
		return err
	}
	for i := range demoWorkers {
		a, err := s.start("worker-"+strconv.Itoa(i+1), true, "demo", "--role", "worker", "--index", strconv.Itoa(i),
			"--base", "http://"+s.listener.Addr().String(), "--seed", strconv.FormatUint(s.seed, 10))
		if err != nil {
			return err
		}
		p.workers = append(p.workers, a)
	}
	p.view.say("an agent, an upstream and %d workers; seed %d", demoWorkers, s.seed)
	for _, a := range append(p.workers, p.upstreams[0]) {
		if err := p.until(ctx, a.name+" to be ready", func() bool { return a.tape.head.Ready.Load() == 1 }); err != nil {
			return err
		}
	}
	p.view.say("every worker has fetched all %d keys of the catalog", demoKeys)
	return p.wait(ctx, 300*time.Millisecond)
}

func (p *play) startAgent(ctx context.Context) error {
	s := p.stage
	a, err := s.start("agent", false, "serve", "--policies", s.policies(), "--ledger", s.path("ledger"))
	if err != nil {
		return err
	}
	p.agent = a
	return p.until(ctx, "the agent to serve", func() bool {
		now, err := p.status(ctx)
		return err == nil && now.PID == a.pid()
	})
}

func (p *play) status(ctx context.Context) (now agent.Status, err error) {
	body, err := call(ctx, p.stage.socket(), "GET", "/v1/status")
	if err != nil {
		return now, err
	}
	return now, json.Unmarshal(body, &now)
}

// first is: healthy, then slow, then as before.
func (p *play) first(ctx context.Context) error {
	p.begin(sceneHealthy)
	p.view.say("all is well: %d callers want %d places", demoWorkers*demoCallers[catalog], demoLimit)
	if err := p.wait(ctx, p.plan.healthy); err != nil {
		return err
	}
	p.begin(sceneSlow)
	p.upstreams[0].tape.head.Latency.Store(int64(slowLatency))
	p.view.say("the upstream is slow: %v instead of %v", slowLatency, usualLatency)
	if err := p.wait(ctx, p.plan.slow); err != nil {
		return err
	}
	p.begin(sceneCalm)
	p.upstreams[0].tape.head.Latency.Store(int64(usualLatency))
	p.view.say("the upstream is as fast as before")
	return p.wait(ctx, p.plan.calm)
}

func (p *play) killAgentUnderLoad(ctx context.Context) error {
	p.begin(sceneAgent)
	if err := p.waitSome(ctx); err != nil {
		return err
	}
	end := monotonic() + p.plan.agent
	if err := p.restartAgent(ctx, 0); err != nil {
		return err
	}
	// Two seconds on, its workers would show that they miss something.
	return p.wait(ctx, max(end, p.story.AgentBack[0]+2*time.Second)-monotonic())
}

// restartAgent kills the agent and starts it again.
func (p *play) restartAgent(ctx context.Context, which int) error {
	p.story.AgentKilled[which] = monotonic()
	pid := p.agent.pid()
	p.agent.kill()
	p.view.say("agent %d killed with SIGKILL", pid)
	if err := p.wait(ctx, agentAway); err != nil {
		return err
	}
	if err := p.startAgent(ctx); err != nil {
		return err
	}
	p.story.AgentBack[which] = monotonic()
	var now agent.Status
	alive := demoWorkers
	if p.victim >= 0 {
		alive--
	}
	if err := p.until(ctx, "the workers to attach again", func() bool {
		now, _ = p.status(ctx)
		return len(now.Sessions) == alive
	}); err != nil {
		return err
	}
	p.view.say("agent %d serves, its ledger %s; %s attached again", now.PID, now.Ledger, count(alive, "worker", "workers"))
	return nil
}

// killWorker kills one that holds permits, as the upstream sees it.
func (p *play) killWorker(ctx context.Context) error {
	p.begin(sceneWorker)
	if err := p.waitSome(ctx); err != nil {
		return err
	}
	end := monotonic() + p.plan.worker
	chosen := p.random.IntN(demoWorkers)
	// Calls that last, so that it still holds what was seen when it dies.
	latency := &p.upstreams[0].tape.head.Latency
	latency.Store(int64(longLatency))
	if err := p.wait(ctx, slowest(usualLatency)); err != nil {
		return err
	}
	held := 0
	if err := p.until(ctx, p.workers[chosen].name+" to hold two permits", func() bool {
		held = holds(p.upstreams[0].tape.all(), chosen)
		return held >= 2
	}); err != nil {
		return err
	}
	p.victim, p.story.Victim, p.story.WorkerKilled = chosen, chosen, monotonic()
	p.workers[chosen].kill()
	latency.Store(int64(usualLatency))
	p.view.say("%s killed with SIGKILL, with %s under way", p.workers[chosen].name, count(held, "call", "calls"))
	return p.wait(ctx, end-monotonic())
}

func (p *play) lowerLimit(ctx context.Context) error {
	p.begin(sceneLimit)
	if err := p.waitSome(ctx); err != nil {
		return err
	}
	if err := writeDemoPolicies(p.stage.policies(), demoLowered, p.stage.scope); err != nil {
		return err
	}
	said, err := p.stage.run(ctx, "reload")
	if err != nil {
		return err
	}
	p.story.Reloaded = monotonic()
	lines := strings.Split(strings.TrimSpace(said), "\n") // what changed, then what came of it
	p.view.say("limit of catalog %d -> %d; resagent reload: %s", demoLimit, demoLowered, lines[len(lines)-1])
	return p.wait(ctx, p.plan.limit)
}

// killUpstream is the outage, with another restart of the agent in it.
func (p *play) killUpstream(ctx context.Context) error {
	p.begin(sceneOutage)
	if err := p.waitSome(ctx); err != nil {
		return err
	}
	p.story.UpstreamKilled = monotonic()
	p.upstreams[0].kill()
	if err := p.upstreams[1].serve(); err != nil {
		return err
	}
	p.serving = 1
	p.view.say("upstream killed with SIGKILL; calls to orders fail, they have no fallback")
	if err := p.wait(ctx, p.plan.outage/2); err != nil {
		return err
	}
	if err := p.restartAgent(ctx, 1); err != nil {
		return err
	}
	return p.wait(ctx, p.story.UpstreamKilled+p.plan.outage-monotonic())
}

func (p *play) bringBack(ctx context.Context) error {
	p.begin(sceneBack)
	p.upstreams[1].kill()
	p.story.UpstreamBack = monotonic()
	if err := p.upstreams[2].serve(); err != nil {
		return err
	}
	p.serving = 2
	p.view.say("the upstream is back")
	return p.wait(ctx, p.plan.back)
}

// waitSome waits for a time left to chance.
func (p *play) waitSome(ctx context.Context) error {
	return p.wait(ctx, time.Duration(p.random.Int64N(int64(300*time.Millisecond))))
}

const frame = 100 * time.Millisecond

// wait lets the play go on by itself, and shows it.
func (p *play) wait(ctx context.Context, d time.Duration) error {
	for end := monotonic() + d; ; {
		p.view.draw()
		left := end - monotonic()
		if left <= 0 {
			return nil
		}
		if err := p.rest(ctx, min(left, frame)); err != nil {
			return err
		}
	}
}

// until waits for something to be so.
func (p *play) until(ctx context.Context, what string, so func() bool) error {
	const patience = 20 * time.Second
	for end := monotonic() + patience; !so(); {
		if monotonic() > end {
			return fmt.Errorf("waited %v for %s", patience, what)
		}
		if err := p.rest(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// rest waits, unless an actor falls.
func (p *play) rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case a := <-p.stage.fallen:
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return p.stage.fell(a)
	}
}

// holds is how many calls of a worker an upstream is working on.
func holds(tape []record, worker int) (n int) {
	for _, r := range tape {
		switch {
		case r.Route != catalog || r.worker() != worker:
		case r.Kind == came:
			n++
		case r.Kind == left, r.Kind == abandoned:
			n--
		}
	}
	return n
}
