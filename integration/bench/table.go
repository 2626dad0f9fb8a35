package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/perf/benchmath"
)

// contestant is one thing to measure.
type contestant struct {
	name string
	run  func(b *testing.B)
}

// figures are what came of it.
type figures struct {
	name          string
	time          benchmath.Summary // ns per operation
	allocs, bytes int64             // per operation
}

// race measures the contestants in turn, round after round, so that what else
// the machine does meets all of them.
func race(rounds int, all []contestant) ([]figures, error) {
	times := make([][]float64, len(all))
	out := make([]figures, len(all))
	for range rounds {
		for i, c := range all {
			r := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				c.run(b)
			})
			if r.N == 0 {
				return nil, fmt.Errorf("%s failed", c.name)
			}
			times[i] = append(times[i], float64(r.T.Nanoseconds())/float64(r.N))
			out[i].allocs, out[i].bytes = r.AllocsPerOp(), r.AllocedBytesPerOp()
		}
	}
	for i, c := range all {
		sample := benchmath.NewSample(times[i], &benchmath.DefaultThresholds)
		out[i].name, out[i].time = c.name, benchmath.AssumeNothing.Summary(sample, 0.95)
	}
	return out, nil
}

// show prints a table: a heading, then a line for each row of cells.
func show(heading string, rows ...[]string) {
	fmt.Printf("\n%s\n", heading)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t")+"\t")
	}
	w.Flush()
}

// duration writes nanoseconds with three digits.
func duration(ns float64) string {
	switch {
	case ns < 1e3:
		return fmt.Sprintf("%.3g ns", ns)
	case ns < 1e6:
		return fmt.Sprintf("%.3g us", ns/1e3)
	}
	return fmt.Sprintf("%.3g ms", ns/1e6)
}

func spread(f figures) string { return duration(f.time.Center) + " " + f.time.PctRangeString() }

func inNanoseconds(d time.Duration) string { return duration(float64(d.Nanoseconds())) }
