//go:build linux

package integration

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// quantity is something that is looked at again and again and should stay as
// it is. It may begin anew, as a process that was killed and started again:
// each life has its own level, and all share one slope.
type quantity struct {
	name string
	unit string
	// more than that in a whole run counts as growth: what noise and a heap
	// that finds its size may add.
	tolerance float64
	lives     [][]reading
}

type reading struct {
	at    time.Duration
	value float64
}

// begin starts another life.
func (q *quantity) begin() { q.lives = append(q.lives, nil) }

func (q *quantity) add(at time.Duration, v float64) {
	if len(q.lives) == 0 {
		q.begin()
	}
	last := len(q.lives) - 1
	q.lives[last] = append(q.lives[last], reading{at, v})
}

// fit is the slope per second by least squares within lives, and its standard
// error. What is earlier in a life than warm is left out.
func (q *quantity) fit(warm time.Duration) (slope, deviation float64, n int) {
	var sxx, sxy, syy float64
	lives := 0
	for _, life := range q.lives {
		var kept []reading
		for _, r := range life {
			if r.at-life[0].at >= warm {
				kept = append(kept, r)
			}
		}
		if len(kept) < 2 {
			continue
		}
		lives++
		n += len(kept)
		var x, y float64
		for _, r := range kept {
			x += r.at.Seconds() / float64(len(kept))
			y += r.value / float64(len(kept))
		}
		for _, r := range kept {
			dx, dy := r.at.Seconds()-x, r.value-y
			sxx, sxy, syy = sxx+dx*dx, sxy+dx*dy, syy+dy*dy
		}
	}
	free := n - lives - 1
	if sxx == 0 || free < 1 {
		return 0, math.Inf(1), n
	}
	slope = sxy / sxx
	return slope, math.Sqrt(max(0, syy-slope*sxy) / float64(free) / sxx), n
}

// judge says what the slope is, and whether it is clearly above flat: its lower
// bound (two standard errors) would add more than the tolerance in a run of d.
func (q *quantity) judge(d, warm time.Duration) (text string, grows bool) {
	slope, deviation, n := q.fit(warm)
	last := 0.0
	if l := len(q.lives); l > 0 && len(q.lives[l-1]) > 0 {
		last = q.lives[l-1][len(q.lives[l-1])-1].value
	}
	grows = (slope-2*deviation)*d.Seconds() > q.tolerance
	return fmt.Sprintf("%-32s %10.1f %-5s at the end, slope %+9.3f ± %.3f a minute, %d readings in %d lives",
		q.name, last, q.unit, slope*60, 2*deviation*60, n, len(q.lives)), grows
}

// The fit finds growth within lives, and does not take the step between two
// lives, noise or the warming-up for growth.
func TestSlope(t *testing.T) {
	make := func(perSecond, step, warming float64) *quantity {
		q := &quantity{tolerance: 5}
		for life := range 3 {
			q.begin()
			for i := range 60 {
				v := 100 + step*float64(life) + perSecond*float64(i) + float64(i*7919%5)
				if i < 10 {
					v -= warming * float64(10-i)
				}
				q.add(time.Duration(life*60+i)*time.Second, v)
			}
		}
		return q
	}
	for _, one := range []struct {
		name                     string
		perSecond, step, warming float64
		grows                    bool
	}{
		{"flat", 0, 0, 0, false}, {"another level in each life", 0, 30, 0, false},
		{"warming up", 0, 0, 10, false}, {"growing", 0.1, 0, 0, true}, {"growing in each life anew", 0.1, -6, 10, true},
	} {
		if text, grows := make(one.perSecond, one.step, one.warming).judge(3*time.Minute, 10*time.Second); grows != one.grows {
			t.Errorf("%s: grows is %t, want %t: %s", one.name, grows, one.grows, text)
		}
	}
}
