package main

import (
	"bytes"
	"os"
	"testing"
)

// docs/PERFORMANCE.md is what the committed results say: nobody edits figures.
func TestReportIsGenerated(t *testing.T) {
	r, err := load("../../docs/performance.json")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := available(r)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := releases("../../docs")
	if err != nil {
		t.Fatal(err)
	}
	is, err := os.ReadFile("../../docs/PERFORMANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(is, report(r, shown, kept)) {
		t.Error("docs/PERFORMANCE.md is not what docs/performance.json generates; run: go run -C integration/bench . -measure=false")
	}
	for _, p := range shown {
		for _, kind := range []string{".png", ".svg"} {
			if _, err := os.Stat("../../docs/" + p.file + kind); err != nil {
				t.Errorf("the plot %q is missing: %v", p.title, err)
			}
		}
	}
}

// What is kept of a release is found again by its row, so no two rows have one
// name; and a release that is measured again replaces itself.
func TestReleases(t *testing.T) {
	names := make(map[string]bool)
	for _, row := range budget(&Results{}) {
		if names[row.what] {
			t.Errorf("two rows of the budget are called %q", row.what)
		}
		names[row.what] = true
	}
	r, err := load("../../docs/performance.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"v1", "v2", "v1"} {
		if err := keep(r, dir, name); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := releases(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) != 2 || kept[0].Name != "v2" || kept[1].Measured["HTTP over loopback: p99"] == "" {
		t.Errorf("kept: %+v, want v2 and then v1 with its figures", kept)
	}
}

// A ratio is taken within a round, less the base of that round, and a row that
// misses its goal says so.
func TestBudgetRows(t *testing.T) {
	r := &Results{Series: []Series{
		{Part: partGET, Name: bare, Values: []float64{100, 200, 100}, Allocs: 2},
		{Part: partGET, Name: failsafe, Values: []float64{1100, 1200, 1100}, Allocs: 41},
		{Part: partGET, Name: oursOwn, Values: []float64{400, 500, 400}, Allocs: 8},
		{Part: partGET, Name: oursHost, Values: []float64{600, 700, 600}, Allocs: 8},
	}}
	rows := budget(r)
	for i, want := range []string{"yes", "no", "yes", "not measured"} {
		if rows[i].met != want {
			t.Errorf("%s: met is %q with %s, want %q", rows[i].what, rows[i].met, rows[i].measured, want)
		}
	}
	if got := ratios(r.find(partGET, oursOwn), r.find(partGET, failsafe), r.find(partGET, bare)); got[0] != 0.3 || got[1] != 0.3 {
		t.Errorf("ratios less the base: %v, want 0.3", got)
	}
}
