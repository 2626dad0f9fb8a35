package transport

import (
	"math"
	"sync/atomic"
	"time"
)

// p95 follows the 95th percentile of an upstream's times to the headers, in one
// word. The first values are only gathered: the greatest of 20 is an estimate.
// From then on each value moves it by a fixed ratio, up by 0.95 x step or down
// by 0.05 x step, so that it rests where one value in twenty is greater.
//
// It asks of a value only whether it is greater. That makes it right about the
// attempts that a hedge overtook: how long they would have taken nobody knows,
// but it is longer than the delay.
//
// Source: Robbins and Monro, "A Stochastic Approximation Method", Annals of
// Mathematical Statistics 22 (1951), on a logarithmic scale, with a constant
// step because upstreams change.
type p95 struct {
	word atomic.Uint64 // estimate in ns: 56 | values gathered: 8
}

const (
	p95Gather = 20
	p95Step   = 0.1
)

var (
	p95Up   = math.Exp(0.95 * p95Step)
	p95Down = math.Exp(-0.05 * p95Step)
)

// value is the estimate; ok is false as long as too little is known.
func (p *p95) value() (d time.Duration, ok bool) {
	w := p.word.Load()
	return time.Duration(w >> 8), w&0xff >= p95Gather
}

// add takes in how long an attempt took. Whole is false for one that was given
// up: it took longer than that.
func (p *p95) add(took time.Duration, whole bool) {
	took = max(took, time.Microsecond) // from 0 no ratio leads away
	for {
		w := p.word.Load()
		d, n := time.Duration(w>>8), w&0xff
		switch {
		case !whole && (took < d || n < p95Gather):
			return // it says nothing
		case n < p95Gather:
			d, n = max(d, took), n+1
		case took > d || !whole:
			d = time.Duration(float64(d) * p95Up)
		default:
			d = max(time.Microsecond, time.Duration(float64(d)*p95Down))
		}
		d = min(d, 24*time.Hour) // of 2.28 years that fit
		if p.word.CompareAndSwap(w, uint64(d)<<8|n) {
			return
		}
	}
}

// allowance is how many hedges an upstream's calls have earned: each call a
// part of one, each hedge takes a whole one. At most hedgesSaved are kept, so
// that a long calm is not followed by a burst.
type allowance struct{ millionths atomic.Int64 }

const (
	wholeHedge  = 1_000_000
	hedgesSaved = 10
)

// earn is called for each call, with the part of a hedge that it allows.
func (a *allowance) earn(part float64) {
	for {
		had := a.millionths.Load()
		has := min(had+int64(part*wholeHedge), hedgesSaved*wholeHedge)
		if had == has || a.millionths.CompareAndSwap(had, has) {
			return
		}
	}
}

// take takes one hedge, if there is one.
func (a *allowance) take() bool {
	for {
		had := a.millionths.Load()
		if had < wholeHedge {
			return false
		}
		if a.millionths.CompareAndSwap(had, had-wholeHedge) {
			return true
		}
	}
}

// giveBack returns a hedge that was not sent.
func (a *allowance) giveBack() { a.millionths.Add(wholeHedge) }
