package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is one thing wrong with a set of policies.
type Error struct {
	// Path of the value in the set, such as
	// "upstreams.payments.retry.max_attempts". Empty for the set as a whole.
	Path string `json:"path"`
	// Position in a file; the zero Position where the set came from no file.
	Position Position `json:"position,omitzero"`
	// Problem says what is wrong, Want what to write instead.
	Problem string `json:"problem"`
	Want    string `json:"want"`
}

// maxPathShown is more than the longest path that exists has: one that does not
// may be a text that somebody wrote as a key.
const maxPathShown = 300

// Error gives one line: where, what, and what to write instead.
func (e *Error) Error() string {
	parts := []string{"policies"}
	if !e.Position.IsZero() {
		parts[0] = e.Position.String()
	}
	for _, part := range []string{shortened(e.Path, maxPathShown), e.Problem, e.Want} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Errors is everything wrong with a set, in the order of the files. It is
// never empty where it is returned as an error.
type Errors []*Error

// maxErrorLines bounds what Error prints; a mistake in a generated file may
// repeat ten thousand times.
const maxErrorLines = 50

// Error gives one line for each error, at most 50.
func (e Errors) Error() string {
	var b strings.Builder
	for i, one := range e {
		if i == maxErrorLines {
			fmt.Fprintf(&b, "\npolicies: and %d more errors", len(e)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(one.Error())
	}
	return b.String()
}

// Unwrap lets errors.As find an *Error.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// err gives the errors by their places, the files in the order given, each
// error once; nil where there is none.
func (e Errors) err(files ...string) error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(slices.Index(files, a.Position.File), slices.Index(files, b.Position.File)),
			cmp.Compare(a.Position.File, b.Position.File),
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Problem, b.Problem),
		)
	})
	return slices.CompactFunc(e, func(a, b *Error) bool { return *a == *b })
}

// Position is a place in a file. Line and Column count from 1, columns in
// characters. The zero Position is no place.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// IsZero reports whether p is no place.
func (p Position) IsZero() bool { return p == Position{} }

// String gives "file:line:column", only the file where there is no line, and
// "" for no place.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// quote shows what somebody wrote: cut to a length that leaves the message
// readable, and with nothing in it that a terminal would obey.
func quote(s string) string {
	return fmt.Sprintf("%q", shortened(s, 60))
}

// shortened is s, or its first most characters and three dots.
func shortened(s string, most int) string {
	if utf8.RuneCountInString(s) > most {
		return string([]rune(s)[:most]) + "..."
	}
	return s
}
