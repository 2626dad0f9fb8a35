//go:build linux

package agent

import (
	"slices"
	"time"
)

const (
	recentFor   = 10 * time.Second       // what "recent" means, where somebody looks that often
	sampleEvery = 900 * time.Millisecond // none is kept that is nearer to the one before
	sampleFor   = time.Minute
)

// sample is the calls of all upstreams at one time.
type sample struct {
	at    time.Duration
	calls map[string]Calls
}

// samples are those of the last minute, taken where somebody asks: who asks
// next is told what came since. Nobody asks: there are none. The zero value is
// ready.
type samples []sample

// since says what was counted since the earliest sample of the last 10 s, else
// since the newest, and over what time; zero: there is none. It keeps now for
// those who ask later.
func (s *samples) since(now time.Duration, calls map[string]Calls) (map[string]Calls, time.Duration) {
	kept := slices.DeleteFunc(*s, func(one sample) bool { return now-one.at > sampleFor })
	var from *sample
	for i := range kept {
		if age := now - kept[i].at; age >= sampleEvery && (from == nil || now-from.at > recentFor) {
			from = &kept[i]
		}
	}
	recent := map[string]Calls{}
	over := time.Duration(0)
	if from != nil {
		over = now - from.at
		for name, c := range calls {
			recent[name] = c.less(from.calls[name])
		}
	}
	if len(kept) == 0 || now-kept[len(kept)-1].at >= sampleEvery {
		// Enough of them for the time in which all are looked at, and the newest
		// before that.
		for len(kept) > 1 && now-kept[1].at > recentFor {
			kept = kept[1:]
		}
		kept = append(slices.Clip(kept), sample{now, calls})
	}
	*s = kept
	return recent, over
}
