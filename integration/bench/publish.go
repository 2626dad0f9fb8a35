package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// publish writes the report and its plots.
func publish(r *Results, docs string) error {
	if err := os.MkdirAll(docs, 0o755); err != nil {
		return err
	}
	shown, err := draw(r, docs)
	if err != nil {
		return err
	}
	kept, err := releases(docs)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, "PERFORMANCE.md"), report(r, shown, kept), 0o644)
}

// report is docs/PERFORMANCE.md, from the results, the plots there are, and
// what was kept of releases.
func report(r *Results, shown []picture, kept []release) []byte {
	var b bytes.Buffer
	m := r.Machine
	fmt.Fprintf(&b, `# Performance

Generated from [performance.json](performance.json) by `+"`make bench`"+`, which measures all of it again (`+"`go run -C integration/bench . -measure=false`"+` writes this page and the plots only). Do not edit.

Measured on %s: %s, %d processors, %s, %s. %d rounds of %s; the things of one table took turns in each round. What is beside a ± is the 95 %% confidence interval of the median (benchstat's, golang.org/x/perf/benchmath); a ratio is the median over rounds, of two things measured in the same round. Compared with: %s.

## The budget

| What | Goal | Measured | Met |
| --- | --- | --- | --- |
`, r.Date, m.CPU, m.Processors, m.Kernel, m.Go, r.Rounds, r.Each, strings.Join(m.Peers, ", "))
	for _, row := range budget(r) {
		met := row.met
		if row.why != "" {
			met += ": " + row.why
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.what, row.goal, row.measured, met)
	}
	compare(&b, kept)
	for _, p := range shown {
		fmt.Fprintf(&b, "\n![%s](%s.png)\n", p.title, p.file)
	}
	var done []string
	for _, s := range r.Series {
		if !slices.Contains(done, s.Part) {
			done = append(done, s.Part)
			if strings.HasPrefix(s.Part, "loopback:") {
				loopTable(&b, r, s.Part)
				continue
			}
			table(&b, r.part(s.Part))
		}
	}
	return b.Bytes()
}

// table shows one comparison.
func table(b *bytes.Buffer, all []Series) {
	name := all[0].Part
	fmt.Fprintf(b, "\n## %s\n\n", strings.ToUpper(name[:1])+name[1:])
	var base, peer *Series
	for i := range all {
		switch all[i].Name {
		case bare:
			base = &all[i]
		case failsafe:
			peer = &all[i]
		}
	}
	allocs := slices.ContainsFunc(all, func(s Series) bool { return s.Allocs > 0 })
	head := []string{"", "Median"}
	if peer != nil {
		head = append(head, "Over bare, of failsafe-go's")
	}
	if allocs {
		head = append(head, "Allocations", "Bytes")
	}
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	line(slices.Repeat([]string{"---"}, len(head)))
	for i := range all {
		s := &all[i]
		if strings.HasPrefix(s.Name, "distribution") {
			line(append([]string{s.Name, fmt.Sprintf("p50 %s, p90 %s, p99 %s, greatest %s", value(s.Values[50], s.Unit), value(s.Values[90], s.Unit),
				value(s.Values[99], s.Unit), value(s.Values[100], s.Unit))}, make([]string, len(head)-2)...))
			continue
		}
		sum := summary(s.Values)
		cells := []string{s.Name, value(sum.Center, s.Unit) + " " + spread(sum)}
		if peer != nil {
			over := ""
			if s != base && s != peer {
				of := summary(ratios(s, peer, base))
				over = fmt.Sprintf("%.2f %s", of.Center, spread(of))
			}
			cells = append(cells, over)
		}
		if allocs {
			cells = append(cells, fmt.Sprint(s.Allocs), fmt.Sprint(s.Bytes))
		}
		line(cells)
	}
}

// value writes a number of a unit, nanoseconds in what suits them.
func value(v float64, unit string) string {
	switch {
	case unit == "of 1":
		return fmt.Sprintf("%.3f", v)
	case unit != "ns" && v >= 1000:
		return fmt.Sprintf("%.0f %s", v, unit)
	case unit != "ns":
		return fmt.Sprintf("%.3g %s", v, unit)
	case v < 1e3:
		return fmt.Sprintf("%.3g ns", v)
	case v < 1e6:
		return fmt.Sprintf("%.3g us", v/1e3)
	}
	return fmt.Sprintf("%.3g ms", v/1e6)
}
