package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// style is how a piece of text is drawn where there is colour: the parameters
// of SGR, of the terminal's own colours (ECMA-48, section 8.3.117).
type style string

const (
	plain style = ""
	good  style = "32"
	warn  style = "33"
	bad   style = "31"
	faint style = "2"
	bold  style = "1"
)

// piece is text of one style. Its text was made [printable].
type piece struct {
	text  string
	style style
}

// line is one row of a screen.
type line []piece

// text is the row as it is written.
func (l line) text(colour bool) string {
	var b strings.Builder
	for _, p := range l {
		if colour && p.style != plain && p.text != "" {
			b.WriteString("\x1b[" + string(p.style) + "m" + p.text + "\x1b[0m")
		} else {
			b.WriteString(p.text)
		}
	}
	if colour {
		return b.String()
	}
	return strings.TrimRight(b.String(), " ")
}

// fit cuts the row to so many columns; 0: there is no such bound.
func (l line) fit(width int) line {
	if width <= 0 {
		return l
	}
	var fitted line
	for _, p := range l {
		n := columnsOf(p.text)
		if n > width {
			return append(fitted, piece{fit(p.text, width), p.style})
		}
		fitted = append(fitted, p)
		width -= n
	}
	return fitted
}

// columnsOf is how many columns of a terminal text takes.
func columnsOf(s string) (n int) {
	for _, r := range s {
		n += columnsOfRune(r)
	}
	return n
}

// columnsOfRune is 2 for the wide letters of East Asia and pictures, 0 for
// marks that stand on the letter before (Unicode, annex 11).
func columnsOfRune(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60,
		r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// fit cuts text to so many columns, with a mark where something is left out.
func fit(s string, width int) string {
	if columnsOf(s) <= width {
		return s
	}
	n := 0
	for i, r := range s {
		if n += columnsOfRune(r); n > width-1 {
			return s[:i] + strings.Repeat("…", min(1, width))
		}
	}
	return s
}

// pad brings text to so many columns.
func pad(s string, width int, right bool) string {
	blank := strings.Repeat(" ", max(0, width-columnsOf(s)))
	if right {
		return blank + s
	}
	return s + blank
}

// fold breaks text between words into rows of so many columns; 0: into one. A
// longer word is cut.
func fold(s string, width int) (rows []string) {
	if width <= 0 {
		return []string{strings.Join(strings.Fields(s), " ")}
	}
	row := ""
	for _, word := range strings.Fields(s) {
		if row != "" && columnsOf(row)+1+columnsOf(word) > width {
			rows = append(rows, row)
			row = ""
		}
		if row != "" {
			row += " "
		}
		row += word
	}
	rows = append(rows, row)
	for i := range rows {
		rows[i] = fit(rows[i], width)
	}
	return rows
}

// window is the size of the terminal that w is, else what COLUMNS and LINES say;
// 0: there is no such bound.
func window(w io.Writer) (width, height int) {
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			width, height = int(size.Col), int(size.Row)
		}
	}
	for name, n := range map[string]*int{"COLUMNS": &width, "LINES": &height} {
		if set, err := strconv.Atoi(os.Getenv(name)); err == nil && set > 0 && *n == 0 {
			*n = set
		}
	}
	return width, height
}

// coloured says whether to draw with colour on w (no-color.org).
func coloured(w io.Writer, never bool) bool {
	return !never && os.Getenv("NO_COLOR") == "" && isTerminal(w)
}
