//go:build linux

package agent

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/page"
)

// What one cell says, reading by reading, and what is believed of it.
func TestTallyBelievesWhatCanBe(t *testing.T) {
	type reading struct {
		after time.Duration
		page.Traffic
	}
	wrapped := page.Traffic{Sent: 1<<32 - 2, Attempts: 1<<32 - 2, Unsent: 1<<32 - 1, Fallback: 1<<32 - 1}
	for name, one := range map[string]struct {
		from    page.Traffic
		says    []reading
		want    Calls
		doubted bool
	}{
		"grows":                       {page.Traffic{}, []reading{{time.Second, page.Traffic{Sent: 10, Attempts: 12}}, {time.Second, page.Traffic{Sent: 20, Attempts: 25, Unsent: 3, Fallback: 4}}}, Calls{20, 3, 25, 4}, false},
		"what was there counts not":   {page.Traffic{Sent: 5, Attempts: 6, Unsent: 7, Fallback: 8}, []reading{{0, page.Traffic{Sent: 6, Attempts: 7, Unsent: 7, Fallback: 8}}}, Calls{1, 0, 1, 0}, false},
		"an older process":            {page.Traffic{}, []reading{{time.Hour, page.Traffic{}}}, Calls{}, false},
		"wraps":                       {wrapped, []reading{{time.Second, page.Traffic{Sent: 2, Attempts: 3, Unsent: 1, Fallback: 1}}}, Calls{4, 2, 5, 2}, false},
		"attempts that overflow":      {page.Traffic{Attempts: 1<<32 - 1}, []reading{{time.Second, page.Traffic{Sent: 2, Attempts: 0}}}, Calls{2, 0, 1, 0}, false},
		"backwards":                   {page.Traffic{}, []reading{{time.Second, page.Traffic{Sent: 10, Attempts: 10}}, {time.Minute, page.Traffic{Sent: 9, Attempts: 9}}}, Calls{10, 0, 10, 0}, true},
		"too many calls for the time": {page.Traffic{}, []reading{{time.Second, page.Traffic{Sent: 2_000_001, Attempts: 2_000_001}}}, Calls{}, true},
		"as many as can be":           {page.Traffic{}, []reading{{time.Second, page.Traffic{Sent: 2_000_000, Attempts: 2_000_000}}}, Calls{2_000_000, 0, 2_000_000, 0}, false},
		"too many that were not sent": {page.Traffic{}, []reading{{0, page.Traffic{Unsent: 1_000_001}}}, Calls{}, true},
		"fewer attempts than calls":   {page.Traffic{}, []reading{{time.Second, page.Traffic{Sent: 10, Attempts: 8}}}, Calls{}, true},
		"attempts without calls":      {page.Traffic{}, []reading{{time.Second, page.Traffic{Attempts: 1}}}, Calls{}, true},
		"more than the policy allows": {page.Traffic{}, []reading{{time.Second, page.Traffic{Sent: 10, Attempts: 31}}}, Calls{}, true},
		"more answers than calls":     {page.Traffic{}, []reading{{time.Second, page.Traffic{Unsent: 1, Fallback: 2000}}}, Calls{}, true},
		"between two steps":           {page.Traffic{}, []reading{{time.Second, page.Traffic{Fallback: 8}}}, Calls{0, 0, 0, 8}, false},
		"nothing is believed of it after that": {page.Traffic{}, []reading{
			{time.Second, page.Traffic{Sent: 1, Attempts: 1}}, {time.Second, page.Traffic{}}, {time.Second, page.Traffic{Sent: 5, Attempts: 5}},
		}, Calls{1, 0, 1, 0}, true},
	} {
		var c tally
		now := time.Hour
		c.begin(one.from, now)
		for _, r := range one.says {
			now += r.after
			c.read(r.Traffic, now, 3)
		}
		if c.Calls != one.want || c.doubted != one.doubted {
			t.Errorf("%s: %+v, doubted %v; want %+v, %v", name, c.Calls, c.doubted, one.want, one.doubted)
		}
	}
}

// Whatever a cell says, what is believed only grows, and no faster than can be.
func FuzzTally(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		var c tally
		now := time.Duration(r.Int64N(int64(time.Hour)))
		random := func() page.Traffic {
			return page.Traffic{Sent: r.Uint32() >> r.IntN(32), Attempts: r.Uint32() >> r.IntN(32), Unsent: r.Uint32() >> r.IntN(32), Fallback: r.Uint32() >> r.IntN(32)}
		}
		c.begin(random(), now)
		for began := now; ; {
			was := c.Calls
			now += time.Duration(r.Int64N(int64(time.Minute)))
			c.read(random(), now, 3)
			if c.Sent < was.Sent || c.Unsent < was.Unsent || c.Attempts < was.Attempts || c.Fallback < was.Fallback {
				t.Fatalf("%+v after %+v", c.Calls, was)
			}
			if most := uint64(fastest * (now - began + time.Hour).Seconds()); c.Total() > 2*most || c.Attempts > 3*c.Sent+3 || c.Fallback > c.Total()+atOnce {
				t.Fatalf("%+v after %v", c.Calls, now-began)
			}
			if r.IntN(8) == 0 {
				return
			}
		}
	})
}

func TestRecentIsSinceSomebodyLooked(t *testing.T) {
	calls := func(n uint64) map[string]Calls { return map[string]Calls{"u": {Sent: n, Attempts: n}} }
	for name, one := range map[string]struct {
		looks []time.Duration // the last one is asked about
		over  time.Duration
	}{
		"nobody before":                      {[]time.Duration{0}, 0},
		"a moment ago":                       {[]time.Duration{0, 100 * time.Millisecond}, 0},
		"a second ago":                       {[]time.Duration{0, time.Second}, time.Second},
		"the earliest of ten seconds":        {[]time.Duration{0, 2 * time.Second, 4 * time.Second, 11 * time.Second}, 9 * time.Second},
		"every second, for long":             {[]time.Duration{0, 1e9, 2e9, 3e9, 4e9, 5e9, 6e9, 7e9, 8e9, 9e9, 10e9, 11e9, 12e9, 13e9, 14e9}, 10 * time.Second},
		"every fifteen seconds":              {[]time.Duration{0, 15 * time.Second, 30 * time.Second}, 15 * time.Second},
		"more than a minute ago":             {[]time.Duration{0, 61 * time.Second}, 0},
		"many at once keep no more than one": {[]time.Duration{0, 1, 2, 3, 4, 5, time.Second}, time.Second},
	} {
		var s samples
		var recent map[string]Calls
		var over time.Duration
		for _, at := range one.looks {
			recent, over = s.since(time.Hour+at, calls(uint64(at/time.Millisecond)))
		}
		if over != one.over || recent["u"].Sent != uint64(one.over/time.Millisecond) {
			t.Errorf("%s: %+v over %v, want over %v", name, recent, over, one.over)
		}
		if len(s) > 12 {
			t.Errorf("%s: %d samples kept", name, len(s))
		}
	}
}

func TestCallsLess(t *testing.T) {
	if got := (Calls{5, 5, 5, 5}).less(Calls{1, 2, 3, 4}); got != (Calls{4, 3, 2, 1}) {
		t.Errorf("less: %+v", got)
	}
	if got := (Calls{5, 5, 5, 5}).less(Calls{1, 2, 6, 4}); got != (Calls{5, 5, 5, 5}) {
		t.Errorf("less, of an upstream that began again: %+v", got)
	}
}

func TestCommand(t *testing.T) {
	start, err := startTime(1)
	if err != nil {
		t.Skipf("NOT TESTED: the name of process 1, which cannot be seen here: %v", err)
	}
	if got := command(1, start); got == "" {
		t.Error("process 1 has no name")
	}
	if got := command(1, start+1); got != "" {
		t.Errorf("a process of another start has the name %q", got)
	}
	if got := command(1<<30, 1); got != "" {
		t.Errorf("no process has the name %q", got)
	}
	for _, text := range []string{"", "1 (a", "1 )a( S", ")"} {
		if _, ok := statStart([]byte(text)); ok {
			t.Errorf("%q has a start time", text)
		}
	}
}
