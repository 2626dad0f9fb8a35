//go:build linux

package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/wire"
)

// grace is how long callers wait for a lost agent before the floor.
const grace = 2 * time.Second

// Workers that started without an agent find it by themselves, and what they
// have in flight by then counts.
func TestAgentStartsLater(t *testing.T) {
	t.Parallel()
	const limit, processes = 4, 3
	random := seeded(t)
	u, free := newUpstream(t, random), newUpstream(t, random)
	h := newHost(t, bulkhead(u, limit))
	var all []*worker
	for range processes {
		all = append(all, h.newcomer(ownPoliciesEnv+"="+h.path("p.yaml")))
	}
	for _, w := range all {
		w.call(u, pathHold, 2*limit)
	}
	u.inFlight(processes * limit) // each process for itself
	h.start()
	for _, w := range all {
		w.load(free, pathWork, 1) // a process looks for the agent when it calls
	}
	began := time.Now()
	h.sessions(processes)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v until all had found the agent, want at most 3 s", took)
	}
	h.eventually("the agent counts what was in flight before it came", func() bool {
		l := h.limit("shop", wire.Bulkhead)
		return l.InUse+l.Extra >= limit && l.Waiting > 0
	})
	if got := u.count().calls; got != processes*limit {
		t.Errorf("%d calls were let through, %d of them while more were in flight than the limit", got, got-processes*limit)
	}
	for _, w := range all {
		w.order(order{})
	}
	u.release()
	u.inFlight(0)
	u.allow(limit)
	for _, w := range all {
		w.load(u, pathWork, limit)
	}
	u.further(500)
	for _, w := range all {
		w.finish()
		w.mustNotFail()
	}
	if most := u.count().most; most != limit {
		t.Errorf("at most %d in flight with the agent there, want exactly %d", most, limit)
	}
	allFree(h)
	noneGranted(h)
}

// While the agent is away for longer than the grace, what was granted goes on
// and every other process has one call at a time; when it comes back those
// count, until they end.
func TestAgentAwayForLong(t *testing.T) {
	for _, processes := range []int{3, 32} {
		t.Run(fmt.Sprintf("%d processes", processes), func(t *testing.T) {
			t.Parallel()
			awayForLong(t, processes)
		})
	}
}

func awayForLong(t *testing.T, processes int) {
	const limit = 4
	floor := processes - 1 // each has one that has no permit
	u := newUpstream(t, seeded(t))
	h := newHost(t, bulkhead(u, limit))
	h.start()
	u.allow(limit)
	all := h.workers(processes)
	holds, others := all[0], all[1:]
	for _, w := range all {
		w.call(u, pathNow, 1)
	}
	eventually(t, "each process has made a call", func() bool { return u.count().calls == len(all) })
	h.sessions(len(all))
	holds.call(u, pathHold, limit)
	u.inFlight(limit)

	h.kill()
	lost := time.Now()
	u.allow(limit + floor)
	for _, w := range others {
		w.call(u, pathHold, 3)
	}
	u.inFlight(limit + floor)
	if took := time.Since(lost); took < grace {
		t.Errorf("the floor was used %v after the agent's end, want not before %v", took, grace)
	}
	throughout(t, 300*time.Millisecond, "one call for each process without a permit", func() bool { return u.count().inFlight == limit+floor })

	h.start()
	h.sessions(len(all))
	h.eventually("the agent counts the floor", func() bool {
		l := h.limit("shop", wire.Bulkhead)
		return l.InUse+l.Extra == limit+floor && l.Waiting == 2*floor
	})
	throughout(t, 100*time.Millisecond, "nothing new above the limit", func() bool { return u.count().inFlight == limit+floor })
	u.release()
	eventually(t, "those that waited are answered", func() bool {
		c := u.count()
		return c.calls == len(all)+limit+3*floor && c.inFlight == 0
	})
	u.allow(limit)
	for _, w := range all {
		w.load(u, pathWork, limit)
	}
	u.further(300)
	for _, w := range all {
		w.finish()
		w.mustNotFail()
	}
	allFree(h)
	noneGranted(h)
}
