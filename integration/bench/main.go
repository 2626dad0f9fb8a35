// Command bench measures what this project costs, beside its peers, in one
// run: the things to compare take turns, several times. The results go to a
// file; docs/PERFORMANCE.md and its plots are made from that file alone.
// Nothing here passes or fails by time.
//
// A new comparison is a function that measures with [book.race] or adds series
// of its own, a line in parts, and a table in report.go.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// parts are the comparisons, in order.
var parts = []struct {
	name string
	run  func(*book) error
}{
	{"calls", calls},
	{"layers", layers},
	{"upstreams", upstreams},
	{"in flight", inFlight},
	{"permits", permits},
	{"processes", processes},
	{partGrants, grants},
	{"loopback", loopback},
	{"hand-over", handOver},
	{partSessions, sessions},
	{"cache", caches},
}

func main() {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	testing.Init()
	rounds := flag.Int("rounds", 20, "how often each thing is measured")
	each := flag.Duration("each", 100*time.Millisecond, "how long each measurement goes on")
	results := flag.String("results", "../../docs/performance.json", "the results file")
	docs := flag.String("docs", "../../docs", "where the report and the plots go")
	only := flag.String("parts", "", "measure only these, as in calls,permits, and keep the file's others")
	release := flag.String("release", "", "keep the budget's figures under this name, as in v1.2.0, in ratios.json beside the report")
	measure := flag.Bool("measure", true, "measure; else only make the report from the results file")
	flag.Parse()
	if err := flag.Set("test.benchtime", each.String()); err != nil {
		fail(err)
	}
	if *measure {
		if err := run(*rounds, *each, *results, *only); err != nil {
			fail(err)
		}
	}
	r, err := load(*results)
	if err == nil && *release != "" {
		err = keep(r, *docs, *release)
	}
	if err == nil {
		err = publish(r, *docs)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// run measures and writes the results file.
func run(rounds int, each time.Duration, path, only string) error {
	b := &book{rounds: rounds}
	var chosen []string
	if only != "" {
		chosen = strings.Split(only, ",")
		old, err := load(path)
		if err != nil {
			return fmt.Errorf("the other parts' results: %w", err)
		}
		b.Series = slices.DeleteFunc(old.Series, func(s Series) bool {
			part, _, _ := strings.Cut(s.Part, ":") // "calls: GET" is of calls
			return slices.Contains(chosen, part)
		})
	}
	b.Machine, b.Rounds, b.Each, b.Date = machine(), rounds, each.String(), time.Now().UTC().Format(time.DateOnly)
	for _, p := range parts {
		if chosen != nil && !slices.Contains(chosen, p.name) {
			continue
		}
		began := time.Now()
		if err := p.run(b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Printf("%-12s %v\n", p.name, time.Since(began).Round(time.Second))
	}
	return b.store(path)
}
