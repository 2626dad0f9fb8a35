package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// release is what is kept of the run of a release: the budget's measured
// column, by row.
type release struct {
	Name, Date, CPU string
	Measured        map[string]string
}

const releasesFile = "ratios.json"

// releases are those that were kept, the oldest first.
func releases(docs string) ([]release, error) {
	text, err := os.ReadFile(filepath.Join(docs, releasesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []release
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", releasesFile, err)
	}
	return all, nil
}

// keep adds a release, or replaces the one of that name.
func keep(r *Results, docs, name string) error {
	all, err := releases(docs)
	if err != nil {
		return err
	}
	one := release{Name: name, Date: r.Date, CPU: r.Machine.CPU, Measured: make(map[string]string)}
	for _, row := range budget(r) {
		if row.measured != "" {
			one.Measured[row.what] = row.measured
		}
	}
	all = append(slices.DeleteFunc(all, func(o release) bool { return o.Name == name }), one)
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, releasesFile), append(text, '\n'), 0o644)
}

// compare shows the releases beside each other.
func compare(b *bytes.Buffer, kept []release) {
	if len(kept) == 0 {
		return
	}
	fmt.Fprint(b, "\n## By release\n\nKept in [ratios.json](ratios.json) by `make bench BENCHFLAGS=-release=vX.Y.Z`. Ratios compare between machines, times do not.\n\n| What |")
	rule := "| --- |"
	for _, k := range kept {
		fmt.Fprintf(b, " %s (%s, %s) |", k.Name, k.Date, k.CPU)
		rule += " --- |"
	}
	fmt.Fprintf(b, "\n%s\n", rule)
	for _, row := range budget(&Results{}) {
		fmt.Fprintf(b, "| %s |", row.what)
		for _, k := range kept {
			fmt.Fprintf(b, " %s |", k.Measured[row.what])
		}
		fmt.Fprintln(b)
	}
}
