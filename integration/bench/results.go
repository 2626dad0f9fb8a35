package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/perf/benchmath"
)

// Results is what a run writes down: all that the report and the plots are
// made from.
type Results struct {
	Machine Machine
	Rounds  int    // how often each thing was measured
	Each    string // how long one measurement went on
	Date    string // of the run, as in 2026-11-24
	Series  []Series
}

// Series is one thing that was measured, in one unit.
type Series struct {
	Part   string    // the comparison it belongs to; the things of a part took turns
	Name   string    // what was measured
	X      float64   `json:",omitempty"` // for a plot: how many upstreams, processes, calls
	Unit   string    // of Values: "ns", "calls/s", "MiB", ...
	Values []float64 // one a round, in order; for a "distribution" its percentiles 0 to 100
	Allocs int64     `json:",omitempty"` // per operation
	Bytes  int64     `json:",omitempty"`
}

// book collects a run's results.
type book struct {
	Results
	rounds int
}

// add writes down a series that [book.race] did not measure.
func (b *book) add(s Series) { b.Series = append(b.Series, s) }

// part is the series of a comparison, in order.
func (r *Results) part(name string) []Series {
	var all []Series
	for _, s := range r.Series {
		if s.Part == name {
			all = append(all, s)
		}
	}
	return all
}

// find is one series of a comparison; nil where it was not measured.
func (r *Results) find(part, name string) *Series {
	for i, s := range r.Series {
		if s.Part == part && s.Name == name {
			return &r.Series[i]
		}
	}
	return nil
}

// summary is the median with its 95 % confidence interval, as benchstat has it.
func summary(values []float64) benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(append([]float64(nil), values...), &benchmath.DefaultThresholds), 0.95)
}

// spread is how far the confidence interval goes from the median.
func spread(s benchmath.Summary) string { return "± " + s.PctRangeString() }

func (s *Series) median() float64 { return summary(s.Values).Center }

// ratios has a's part of b for each round, less what the base costs in that
// round: the things of one round met the same machine. A nil base is nothing.
func ratios(a, b, base *Series) []float64 {
	out := make([]float64, min(len(a.Values), len(b.Values)))
	for i := range out {
		less := 0.0
		if base != nil {
			less = base.Values[i]
		}
		out[i] = (a.Values[i] - less) / (b.Values[i] - less)
	}
	return out
}

// load reads a results file.
func load(path string) (*Results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// store writes a results file, a line for each series.
func (r *Results) store(path string) error {
	head := *r
	head.Series = nil
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	text = append(text[:len(text)-len(`null}`)], "[\n"...)
	for i, s := range r.Series {
		line, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", s.Part, s.Name, err)
		}
		text = append(text, line...)
		if i < len(r.Series)-1 {
			text = append(text, ',')
		}
		text = append(text, '\n')
	}
	return os.WriteFile(path, append(text, "]}\n"...), 0o644)
}
