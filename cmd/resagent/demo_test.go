package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// kept is a demo in which every promise was kept.
func kept() measured {
	m := measured{
		QuotesSecond: 105, QuotesTenth: 20, Originals: 500, Attempts: 510, AllCalls: 9000, AllAttempts: 800,
		StaleCalls: 4000, CatalogCalls: 4000, Stopped: 0.1, Probes: 20, ProbesFor: 9, Normal: 2,
		PermitsHeld: 2, PermitsBack: 0.05, Drained: 0.08,
	}
	for _, name := range []string{sceneHealthy, sceneLimit, sceneOutage, sceneBack} {
		limit := demoLowered
		if name == sceneHealthy {
			limit = demoLimit
		}
		m.Scenes = append(m.Scenes, sceneMeasured{Name: name, Limit: limit, Most: limit, Use: 0.95})
	}
	return m
}

// Each promise is broken by its own measurement, and by no other.
func TestDemoVerdictBreaks(t *testing.T) {
	for _, p := range judge(kept()) {
		if !p.OK {
			t.Fatalf("%s is broken by what should keep it: %v, bound %v", p.Name, p.Measured, p.Bound)
		}
	}
	for _, one := range []struct {
		name   string
		broken []string
		by     func(*measured)
	}{
		{"one call too many", []string{"catalog, calls at a time: healthy"}, func(m *measured) { m.Scenes[0].Most = demoLimit + 1 }},
		{"one above the lowered limit", []string{"catalog, calls at a time: limit lowered"}, func(m *measured) { m.Scenes[1].Most = demoLowered + 1 }},
		{"too many at the dead port", []string{"catalog, calls at a time: upstream killed"}, func(m *measured) { m.Scenes[2].Most = demoLowered + 1 }},
		{"the limit lies idle", []string{"catalog, limit in use: upstream back"}, func(m *measured) { m.Scenes[3].Use = 0.89 }},
		{"it lies idle on a busy machine", []string{"catalog, limit in use: upstream back"}, func(m *measured) { m.Scenes[3].Use, m.Scenes[3].Stalled = 0.74, 0.9 }},
		{"the machine is busy", nil, func(m *measured) { m.Scenes[3].Use, m.Scenes[3].Stalled = 0.76, 0.6 }},
		{"its use is not known", []string{"catalog, limit in use: healthy"}, func(m *measured) { m.Scenes[0].Use = math.NaN() }},
		{"too many in a second", []string{"quotes, calls let go in any 1 s"}, func(m *measured) { m.QuotesSecond = 116 }},
		{"too many in 100 ms", []string{"quotes, calls let go in any 100 ms"}, func(m *measured) { m.QuotesTenth = 26 }},
		{"the old limit stays", []string{"new limit: until calls begun before have ended"}, func(m *measured) { m.Drained = 1 }},
		{"nothing was held", []string{"killed worker: permits that it held"}, func(m *measured) { m.PermitsHeld = 0 }},
		{"permits do not come back", []string{"killed worker: until they are all used again"}, func(m *measured) { m.PermitsBack = math.NaN() }},
		{"permits come back late", []string{"killed worker: until they are all used again"}, func(m *measured) { m.PermitsBack = 1.1 }},
		{"the restart costs a call", []string{"agent's restart: calls not answered by the upstream"}, func(m *measured) { m.RestartFailed = 1 }},
		{"a call fails for nothing", []string{"upstream there: calls that failed"}, func(m *measured) { m.Failed = 1 }},
		{"one retry too many", []string{"outage, orders: attempts per request"}, func(m *measured) { m.Attempts = 511 }},
		{"nobody called", []string{"outage, orders: attempts per request"}, func(m *measured) { m.Attempts, m.Originals = 0, 0 }},
		{"one answer is missing", []string{"outage, catalog: answered from the stale cache"}, func(m *measured) { m.StaleCalls-- }},
		{"nobody asked the cache", []string{"outage, catalog: answered from the stale cache"}, func(m *measured) { m.StaleCalls, m.CatalogCalls = 0, 0 }},
		{"they stop late", []string{"outage, catalog: first failure to last attempt"}, func(m *measured) { m.Stopped = 1.1 }},
		{"one does not stop", []string{"outage, catalog: first failure to last attempt", "outage, catalog: probes after that"},
			func(m *measured) { m.Stopped, m.ProbesFor = math.NaN(), math.NaN() }},
		{"one probe too many", []string{"outage, catalog: probes after that"}, func(m *measured) { m.Probes = 7*5 + 1 }},
		{"they come back late", []string{"upstream back: until it answers all workers again"}, func(m *measured) { m.Normal = 3.3 }},
		{"they come back late on a busy machine", nil, func(m *measured) { m.Normal, m.Scenes[3].Stalled = 3.3, 0.6 }},
		{"they come back too late for that", []string{"upstream back: until it answers all workers again"}, func(m *measured) { m.Normal, m.Scenes[3].Stalled = 4.3, 0.9 }},
		{"they never come back", []string{"upstream back: until it answers all workers again"}, func(m *measured) { m.Normal = math.NaN() }},
	} {
		m := kept()
		one.by(&m)
		r := result{Promises: judge(m)}
		var broken []string
		for _, p := range r.Promises {
			if !p.OK {
				broken = append(broken, p.Name)
			}
		}
		if !slices.Equal(broken, one.broken) {
			t.Errorf("%s: broken are %q, want %q", one.name, broken, one.broken)
		}
		var table strings.Builder
		r.print(&table)
		if got := strings.Count(table.String(), " BROKEN\n"); got != len(one.broken) {
			t.Errorf("%s: the table says BROKEN %d times, want %d:\n%s", one.name, got, len(one.broken), table.String())
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("%s: %v", one.name, err)
		}
	}
}

// script builds tapes out of few words.
type script struct{ evidence }

func (s *script) call(tape int, on route, worker int, serial uint64, from, to time.Duration, how kind, level uint16) {
	id := uint64(worker)<<48 | serial
	begun := uint32(len(s.Upstreams[tape]))
	s.Upstreams[tape] = append(s.Upstreams[tape], record{When: int64(from), ID: id, Route: on, Kind: came, Level: level})
	if to != 0 {
		s.Upstreams[tape] = append(s.Upstreams[tape], record{When: int64(to), ID: id, Route: on, Kind: how, Ref: begun, Level: level - 1})
	}
}

func (s *script) answer(worker int, on route, serial uint64, from, to time.Duration, o outcome) {
	s.Workers[worker] = append(s.Workers[worker], record{When: int64(to), ID: uint64(worker)<<48 | serial, Route: on, Kind: called,
		Outcome: o, Ref: uint32((to - from) / time.Microsecond)})
}

// aDemo has two workers, of which the second is killed at 4 s; an agent's
// restart at 2 s; a new limit at 6 s; an outage from 8 s to 12 s; and ends at
// 15 s.
func aDemo() *script {
	s := &script{}
	s.Workers = make([][]record, 2)
	at := func(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
	s.Story = story{
		Began: 0, Victim: 1,
		AgentKilled: [2]time.Duration{at(2), at(10)}, AgentBack: [2]time.Duration{at(2.2), at(10.2)},
		WorkerKilled: at(4), Reloaded: at(6), UpstreamKilled: at(8), UpstreamBack: at(12),
		Scenes: []scene{{sceneHealthy, at(1), at(2), 0}, {sceneAgent, at(2), at(4), 0}, {sceneWorker, at(4), at(6), 0},
			{sceneLimit, at(6), at(8), 0}, {sceneOutage, at(8), at(12), 0}, {sceneBack, at(12), at(15), 0}},
	}
	return s
}

func TestDemoMeasuresConcurrency(t *testing.T) {
	s := aDemo()
	ms := time.Millisecond
	s.call(0, catalog, 0, 1, 1000*ms, 1500*ms, left, 1)
	s.call(0, quotes, 0, 2, 1000*ms, 1500*ms, left, 30) // not catalog's
	s.call(0, catalog, 0, 3, 1600*ms, 1900*ms, left, 21)
	s.call(0, catalog, 1, 4, 3900*ms, 4001*ms, abandoned, 20)
	s.call(0, catalog, 1, 5, 3950*ms, 4003*ms, abandoned, 19)
	s.call(0, catalog, 0, 6, 4100*ms, 4200*ms, left, 19)
	s.call(0, catalog, 0, 7, 4300*ms, 4400*ms, left, 20)
	s.call(0, catalog, 0, 8, 5990*ms, 6090*ms, left, 20) // begun before the reload,
	s.call(0, catalog, 0, 9, 6050*ms, 6100*ms, left, 13) // as long as it lasts 20 may be there
	s.call(0, catalog, 0, 10, 6090*ms, 7000*ms, left, 12)
	m := measure(s.evidence)
	most := map[string]int{}
	for _, one := range m.Scenes {
		most[one.Name] = one.Most
	}
	for name, want := range map[string]int{sceneHealthy: 21, sceneAgent: 20, sceneWorker: 20, sceneLimit: 12, sceneOutage: 0} {
		if most[name] != want {
			t.Errorf("most calls at a time in %q: %d, want %d", name, most[name], want)
		}
	}
	if got := m.Scenes[2]; got.Limit != demoLimit || got.Abandoned != 2 {
		t.Errorf("where the worker is killed the limit is %d, want %d, and %d calls are abandoned, want 2", got.Limit, demoLimit, got.Abandoned)
	}
	if got := m.Scenes[3].Limit; got != demoLowered {
		t.Errorf("after the reload the limit is %d, want %d", got, demoLowered)
	}
	if m.PermitsHeld != 2 || math.Abs(m.PermitsBack-0.3) > 1e-9 {
		t.Errorf("the killed worker held %d, back after %vs; want 2, 0.3s", m.PermitsHeld, m.PermitsBack)
	}
	if math.Abs(m.Drained-0.09) > 1e-9 {
		t.Errorf("the old limit's calls ended after %vs, want 0.09s", m.Drained)
	}
}

func TestDemoMeasuresUseOverTime(t *testing.T) {
	s := aDemo()
	ms := time.Millisecond
	s.call(0, catalog, 0, 1, 500*ms, 1250*ms, left, 10) // 10, then 9
	s.call(0, catalog, 0, 2, 1500*ms, 3000*ms, left, 20)
	if got, want := mean(s.merged(), time.Second, 2*time.Second), 0.25*10+0.25*9+0.5*20; math.Abs(got-want) > 1e-9 {
		t.Errorf("on average %v calls are in flight, want %v", got, want)
	}
}

func TestDemoMeasuresWindows(t *testing.T) {
	ms := time.Millisecond
	times := []time.Duration{0, 10 * ms, 99 * ms, 100 * ms, 150 * ms, 1100 * ms}
	if got := most(times, 100*ms); got != 3 {
		t.Errorf("most in 100 ms is %d, want 3", got)
	}
	if got := most(times, time.Second); got != 5 {
		t.Errorf("most in a second is %d, want 5", got)
	}
	if got := most(nil, time.Second); got != 0 {
		t.Errorf("most of nothing is %d, want 0", got)
	}
}

// A call counts once, and from when its worker let it go.
func TestDemoDatesCallsByTheirWorkers(t *testing.T) {
	s := aDemo()
	ms := time.Millisecond
	for i := range 5 { // all arrive together, one in 50 ms was let go
		serial, from := uint64(i+1), time.Duration(i)*50*ms
		s.call(0, quotes, 0, serial, 2000*ms, 2010*ms, left, 1)
		s.answer(0, quotes, serial, from, 2020*ms, answered)
		last := &s.Workers[0][len(s.Workers[0])-1]
		last.Attempts, last.Waited = 1, uint32(10*ms/time.Microsecond)
	}
	s.call(1, quotes, 0, 5, 8000*ms, 8001*ms, left, 1)
	s.call(0, quotes, 1, 1, 215*ms, 4000*ms, abandoned, 1) // of the killed worker
	if m := measure(s.evidence); m.QuotesTenth != 3 || m.QuotesSecond != 6 {
		t.Errorf("%d in 100 ms and %d in a second, want 3 and 6", m.QuotesTenth, m.QuotesSecond)
	}
}

func TestDemoMeasuresOutage(t *testing.T) {
	s := aDemo()
	ms := time.Millisecond
	event := func(worker int, k kind, at time.Duration) {
		s.Workers[worker] = append(s.Workers[worker], record{When: int64(at), ID: uint64(worker) << 48, Kind: k, Route: catalog})
	}
	// Catalog: an attempt that fails and opens the circuit, one on its way
	// meanwhile, and a probe.
	s.call(1, catalog, 0, 1, 8010*ms, 8011*ms, left, 1)
	event(0, failed, 8012*ms)
	s.answer(0, catalog, 1, 8005*ms, 8012*ms, stale)
	event(0, opened, 8013*ms)
	s.call(1, catalog, 0, 2, 8020*ms, 8021*ms, left, 1)
	s.answer(0, catalog, 2, 8006*ms, 8022*ms, stale)
	s.answer(0, catalog, 3, 8100*ms, 8101*ms, stale)
	s.call(1, catalog, 0, 4, 9100*ms, 9101*ms, left, 1)
	s.answer(0, catalog, 4, 9099*ms, 9102*ms, stale)
	// Orders: two requests, one of them retried.
	for serial, when := range map[uint64]time.Duration{10: 9000 * ms, 11: 9100 * ms} {
		s.call(1, orders, 0, serial, when, when+ms, left, 1)
	}
	s.call(1, orders, 0, 11, 9200*ms, 9201*ms, left, 1)
	// Back: one more stale answer, and then the upstream's own on each route.
	s.answer(0, catalog, 20, 12100*ms, 12200*ms, stale)
	s.answer(0, catalog, 21, 12200*ms, 12300*ms, answered)
	s.answer(0, quotes, 22, 12200*ms, 12500*ms, answered)
	m := measure(s.evidence)
	if m.StaleCalls != 4 || m.CatalogCalls != 4 {
		t.Errorf("%d of %d calls were answered from the cache, want 4 of 4", m.StaleCalls, m.CatalogCalls)
	}
	if m.Originals != 2 || m.Attempts != 3 || m.AllAttempts != 6 {
		t.Errorf("%d attempts for %d requests to orders, %d attempts in all; want 3, 2, 6", m.Attempts, m.Originals, m.AllAttempts)
	}
	if math.Abs(m.Stopped-0.008) > 1e-9 || m.Probes != 1 || math.Abs(m.ProbesFor-3.987) > 1e-9 {
		t.Errorf("stopped after %vs, then %d probes in %vs; want 0.008s, 1, 3.987s", m.Stopped, m.Probes, m.ProbesFor)
	}
	if !math.IsNaN(m.Normal) {
		t.Errorf("normal after %vs, though orders was never answered again", m.Normal)
	}
	s.answer(0, orders, 23, 12200*ms, 12400*ms, answered)
	if m := measure(s.evidence); math.Abs(m.Normal-0.5) > 1e-9 {
		t.Errorf("normal after %vs, want 0.5s", m.Normal)
	}
}

func TestDemoMeasuresFailures(t *testing.T) {
	s := aDemo()
	ms := time.Millisecond
	s.answer(0, orders, 1, 1000*ms, 1100*ms, errored)   // while all is well
	s.answer(0, catalog, 2, 1000*ms, 1200*ms, stale)    // allowed
	s.answer(0, quotes, 3, 2100*ms, 2300*ms, static)    // the restart's, and a failure
	s.answer(0, catalog, 4, 4000*ms, 4199*ms, stale)    // still within 2 s
	s.answer(0, catalog, 5, 4100*ms, 4300*ms, stale)    // not any more
	s.answer(0, orders, 6, 9000*ms, 9001*ms, errored)   // the outage's
	s.answer(0, orders, 7, 1000*ms, 1100*ms, answered)  // well
	s.answer(0, orders, 8, 5000*ms, 5001*ms, refused)   // a failure
	s.answer(0, orders, 9, 5000*ms, 5001*ms, different) // a failure
	m := measure(s.evidence)
	if m.Failed != 4 || m.RestartFailed != 2 {
		t.Errorf("%d failed, and %d by the restart; want 4 and 2", m.Failed, m.RestartFailed)
	}
}

// What is on a tape is there for another who opens it, whole or not at all.
func TestDemoTapeOutlivesItsWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tape")
	writer, err := openTape(path)
	if err != nil {
		t.Fatal(err)
	}
	if i := writer.write(record{Kind: came, Route: orders, ID: 3<<48 | 7, Level: 2}); i != 0 {
		t.Errorf("the first record is number %d", i)
	}
	writer.head.Next.Add(1) // a record whose writer was killed over it
	writer.write(record{Kind: left, Route: orders, ID: 3<<48 | 7, Level: 1})
	writer.head.InFlight[orders].Store(1)
	writer.close()

	reader, err := openTape(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.close()
	all := reader.all()
	if len(all) != 3 || all[0].Kind != came || all[1] != (record{}) || all[2].Kind != left || all[0].worker() != 3 || all[0].Route != orders {
		t.Errorf("the tape says %+v", all)
	}
	if all[2].at() < all[0].at() || all[0].at() == 0 {
		t.Errorf("the times are %v and %v", all[0].at(), all[2].at())
	}
	if _, whole := reader.at(1); whole {
		t.Error("a record that was never finished counts as whole")
	}
	if got := reader.head.InFlight[orders].Load(); got != 1 {
		t.Errorf("%d in flight, want 1", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the tape's mode is %v, %v; want 0600", info.Mode(), err)
	}

	reader.head.Next.Store(tapeRecords)
	reader.write(record{Kind: came})
	if got := reader.head.Lost.Load(); got != 1 {
		t.Errorf("a full tape counts %d lost records, want 1", got)
	}
}

// The demo takes at most a minute, and each scene long enough to be seen.
func TestDemoPlan(t *testing.T) {
	for _, whole := range []time.Duration{demoShortest, demoDuration, demoLongest} {
		p := planFor(whole)
		sum := p.healthy + p.slow + p.calm + p.agent + p.worker + p.limit + p.outage + p.back
		if sum+4*time.Second > time.Minute || sum > whole+2*time.Second {
			t.Errorf("the scenes of %v take %v", whole, sum)
		}
		if worst := demoMaxOpenFor*11/10 + time.Second; p.back < worst {
			t.Errorf("in %v the upstream is back for %v, and normal may need %v", whole, p.back, worst)
		}
	}
}
