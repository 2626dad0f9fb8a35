//go:build linux

package agent

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

const at = time.Second

// someViews are readings as [allocator.read] makes them.
func someViews(t *rapid.T, capacity int) []view {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) view {
		v := view{
			uid:      rapid.IntRange(0, 3).Draw(t, "uid"),
			attached: rapid.IntRange(0, 4).Draw(t, "attached") > 0,
			since:    at - rapid.SampledFrom([]time.Duration{0, unseen, quantum, time.Hour}).Draw(t, "age"),
			turn:     rapid.Uint64Range(0, 50).Draw(t, "turn"),
			granted:  rapid.IntRange(0, 8).Draw(t, "granted"),
			extra:    rapid.IntRange(0, 1).Draw(t, "extra"),
		}
		v.inUse = rapid.IntRange(0, v.granted).Draw(t, "inUse")
		v.available = v.granted - v.inUse
		if v.attached {
			waiting := min(rapid.IntRange(0, 10).Draw(t, "waiting"), capacity)
			v.due = min(waiting, v.available)
			v.waiting = waiting - v.due
		}
		return v
	}), 0, 12).Draw(t, "views")
}

func someLimit(t *rapid.T, kind wire.Kind) *limit {
	capacity := rapid.IntRange(1, 40).Draw(t, "capacity")
	return &limit{kind: kind, capacity: capacity, perUser: rapid.IntRange(1, capacity).Draw(t, "perUser"), every: time.Millisecond}
}

// Grants are never more than there is, never below zero, never to a user
// beyond its bound, nor to anybody who does not wait.
func TestGrantsStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := someLimit(t, rapid.SampledFrom([]wire.Kind{wire.Bulkhead, wire.RateLimit}).Draw(t, "kind"))
		views := someViews(t, l.capacity)
		free := rapid.IntRange(0, 40).Draw(t, "free")
		sum, users := 0, map[int]int{}
		for _, v := range views {
			users[v.uid] += v.granted
		}
		before := map[int]int{}
		for uid, n := range users {
			before[uid] = n
		}
		waiting, served := false, true
		for i, n := range l.grants(free, views) {
			v := views[i]
			if n < 0 || n > 0 && (v.waiting == 0 || !v.attached) {
				t.Fatalf("%d granted to %+v", n, v)
			}
			sum += n
			users[v.uid] += n
			waiting = waiting || v.waiting > 0 && v.attached
			served = served && n >= v.waiting
		}
		if sum > free {
			t.Fatalf("%d granted of %d", sum, free)
		}
		for uid, n := range users {
			if l.kind == wire.Bulkhead && n > max(l.perUser, before[uid]) {
				t.Fatalf("user %d has %d, at most %d", uid, n, l.perUser)
			}
		}
		if l.perUser == l.capacity && l.capacity >= 36 && waiting && !served && sum < free {
			t.Fatalf("%d of %d granted, and somebody waits", sum, free)
		}
	})
}

// A taking-back takes only what is idle, only under demand or above the limit,
// and leaves nobody with an idle permit beyond its turn while somebody waits
// for one that is not free.
func TestTakingBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := someLimit(t, wire.Bulkhead)
		l.perUser = l.capacity
		views := someViews(t, l.capacity)
		granted, extra, waiting := total(views)
		orders := l.takeBack(at, views)
		seized, idle := 0, 0
		for i, o := range orders {
			v := views[i]
			if o.seize < 0 || o.seize > v.available || o.target < 0 {
				t.Fatalf("order %+v for %+v", o, v)
			}
			seized += o.seize
			if left := v.available - o.seize - v.due; at-v.since >= quantum && left > 0 {
				idle += left
			}
		}
		free := l.capacity - granted - extra
		if seized > 0 && waiting == 0 && free >= 0 {
			t.Fatalf("%d taken back, and nobody waits", seized)
		}
		if unmet := waiting - max(0, free) - seized; unmet > 0 && idle > 0 {
			t.Fatalf("%d wait, and %d lie idle beyond their turn: %+v", unmet, idle, orders)
		}
	})
}

// A limit that was lowered gives nothing out until it fits.
func TestLoweredLimitGrantsNothing(t *testing.T) {
	w := newWorld(policy(6, 0, 0, 0))
	a, b := w.spawn(1), w.spawn(2)
	for _, one := range []*actor{a, b} {
		w.connect(one)
		w.open(one, 0)
	}
	w.want(a, 0, 6)
	for range 6 {
		if !w.take(a, 0, 1) {
			t.Fatal("six of six were not granted")
		}
	}
	w.reload(policy(2, 0, 0, 0))
	w.want(b, 0, 2)
	for held := 6; held > 0; held-- {
		w.pass(2 * lookAgain)
		if got := w.take(b, 0, 1); got != (held < 2) {
			t.Fatalf("with %d of a limit of 2 in use by another: a permit %v", held, got)
		} else if got {
			return
		}
		w.release(a, 0, 0, false)
		if w.take(a, 0, 1) && held > 2 {
			t.Fatalf("with %d of a limit of 2 in use one more was taken", held-1)
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("nothing was ever granted")
}

// simulate lets processes want permits all the time, each call taking hold,
// and counts what each gets in so many rounds of 100 us.
func simulate(t *testing.T, permits int, uids []int, hold func(i int) time.Duration, rounds int) (calls []int, used float64) {
	t.Helper()
	w := newWorld(policy(permits, 0, 0, 0))
	calls = make([]int, len(uids))
	var all []*actor
	type flight struct{ ends time.Duration }
	flights := make([][]flight, len(uids))
	for _, uid := range uids {
		a := w.spawn(uid)
		w.connect(a)
		w.open(a, 0)
		all = append(all, a)
	}
	for _, a := range all {
		w.want(a, 0, 2)
	}
	for range rounds {
		w.pass(100 * time.Microsecond)
		for i, a := range all {
			for j := len(flights[i]) - 1; j >= 0; j-- {
				if flights[i][j].ends <= w.now {
					flights[i] = append(flights[i][:j], flights[i][j+1:]...)
					w.release(a, 0, j, false)
				}
			}
			for a.gates[0].waiting > 0 && w.take(a, 0, 1) {
				calls[i]++
				flights[i] = append(flights[i], flight{w.now + hold(i)})
				a.gates[0].waiting = 2
				w.tell(a, 0)
			}
			used += float64(len(flights[i]))
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	}
	return calls, used / float64(rounds*permits)
}

// jain is Jain's index of fairness: 1 if all are equal.
// Source: Jain, Chiu, Hawe, DEC-TR-301, 1984.
func jain(n []int) float64 {
	var sum, squares float64
	for _, x := range n {
		sum += float64(x)
		squares += float64(x) * float64(x)
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(n)) * squares)
}

// Fewer permits than processes: they go round, nobody starves, and the limit
// is used.
func TestRotation(t *testing.T) {
	for _, permits := range []int{1, 2, 3, 5, 7} {
		uids := make([]int, 8)
		calls, used := simulate(t, permits, uids, func(int) time.Duration { return time.Millisecond }, 20000)
		if j := jain(calls); j < 0.95 {
			t.Errorf("%d permits for 8 processes: calls %v, Jain's index %.3f, want 0.95", permits, calls, j)
		}
		if used < 0.8 {
			t.Errorf("%d permits for 8 processes: %.2f of them used", permits, used)
		}
	}
}

// Many processes of one user beside one of another: each user has half.
func TestUsersBeforeProcesses(t *testing.T) {
	calls, _ := simulate(t, 4, []int{1, 2, 2, 2, 2, 2, 2, 2, 2}, func(int) time.Duration { return time.Millisecond }, 20000)
	others := 0
	for _, n := range calls[1:] {
		others += n
	}
	if jain([]int{calls[0], others}) < 0.95 || jain(calls[1:]) < 0.95 {
		t.Errorf("one user's process made %d calls, the other's eight %v; want the same for both users", calls[0], calls[1:])
	}
}

// Nobody starves beside one that holds for long.
func TestSlowHolderStarvesNobody(t *testing.T) {
	calls, _ := simulate(t, 2, make([]int, 4), func(i int) time.Duration {
		if i == 0 {
			return 50 * time.Millisecond
		}
		return time.Millisecond
	}, 20000)
	for i, n := range calls {
		if n < 10 {
			t.Errorf("process %d made %d calls in 2 s: %v", i, n, calls)
		}
	}
}

func TestLimitOf(t *testing.T) {
	set := policy(100, 50, 7, 30)
	for share, want := range map[float64]int{1: 100, 0.29: 29, 0.5: 50, 0.001: 1} {
		set.Upstreams["u"].Bulkhead.MaxSharePerUID = share
		p := &compiled(set).Named("u").Policy
		if n, _, perUser, ok := limitOf(p, wire.Bulkhead); n != 100 || perUser != want || !ok {
			t.Errorf("share %v of 100: %d for one user, want %d", share, perUser, want)
		}
	}
	p := &compiled(set).Named("u").Policy
	if n, every, _, ok := limitOf(p, wire.RateLimit); n != 7 || every != 20*time.Millisecond || !ok {
		t.Errorf("rate: burst %d, one every %v", n, every)
	}
	if n, _, _, ok := limitOf(p, wire.RetryBudget); n != 30 || !ok {
		t.Errorf("budget: %d", n)
	}
	p.Bulkhead.Scope = policies.ScopeProcess
	if _, _, _, ok := limitOf(p, wire.Bulkhead); ok {
		t.Error("a limit of the process is shared")
	}
	for _, kind := range []wire.Kind{wire.Bulkhead, "unheard of", ""} {
		if _, _, _, ok := limitOf(nil, kind); ok {
			t.Errorf("no policy has a limit %q", kind)
		}
	}
}
