package main

import (
	"fmt"
	"math"
	"strconv"
	"testing"
)

// contestant is one thing to measure.
type contestant struct {
	name string
	x    float64 // where a plot shows it; 0: in none
	run  func(b *testing.B)
}

// race measures the contestants of a part in turn, round after round, so that
// what else the machine does meets all of them, and writes them down.
func (b *book) race(part string, all []contestant) error {
	series := make([]Series, len(all))
	for i, c := range all {
		series[i] = Series{Part: part, Name: c.name, X: c.x, Unit: "ns"}
	}
	for range b.rounds {
		for i, c := range all {
			r := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				c.run(b)
			})
			if r.N == 0 {
				return fmt.Errorf("%s: %s failed", part, c.name)
			}
			s := &series[i]
			s.Values = append(s.Values, rounded(float64(r.T.Nanoseconds())/float64(r.N)))
			s.Allocs, s.Bytes = r.AllocsPerOp(), r.AllocedBytesPerOp()
		}
	}
	b.Series = append(b.Series, series...)
	return nil
}

// rounded has four digits: more would be noise in the results file.
func rounded(v float64) float64 {
	f, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil || math.IsInf(v, 0) {
		return 0
	}
	return f
}

// percentiles are the 0th to the 100th of sorted values.
func percentiles[T int64 | float64](sorted []T) []float64 {
	out := make([]float64, 101)
	for p := range out {
		out[p] = rounded(float64(sorted[(len(sorted)-1)*p/100]))
	}
	return out
}
