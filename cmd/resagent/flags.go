package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent/wire"
)

// newFlags makes the flag set of a command; --help goes to standard output.
func newFlags(c command) *pflag.FlagSet {
	fs := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Usage = func() {
		fmt.Fprintf(stdout, "Usage: %s\n\n%s.\n", strings.TrimSpace("resagent "+c.name+" [OPTIONS] "+c.args), c.summary)
		if fs.HasFlags() {
			fmt.Fprintf(stdout, "\nOptions:\n%s\n", strings.TrimRight(fs.FlagUsagesWrapped(100), "\n"))
		}
	}
	return fs
}

// parse reads args and checks that from least to most arguments remain; most
// below zero means any number.
func parse(fs *pflag.FlagSet, args []string, least, most int) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		var hint string
		if unknown := new(pflag.NotExistError); errors.As(err, &unknown) {
			hint = didYouMean("--"+unknown.GetSpecifiedName(), flagNames(fs))
		}
		return usageError{fmt.Errorf("%w%s; see resagent %s --help", err, hint, fs.Name())}
	}
	if n := fs.NArg(); n < least || most >= 0 && n > most {
		return wrongNumber(fs, arguments(least, most))
	}
	return noneEmpty(fs)
}

// wrongNumber is the error of too few or too many arguments.
func wrongNumber(fs *pflag.FlagSet, takes string) error {
	are := "are"
	if fs.NArg() == 1 {
		are = "is"
	}
	return usageError{fmt.Errorf("%s takes %s, and there %s %d; see resagent %s --help", fs.Name(), takes, are, fs.NArg(), fs.Name())}
}

// noneEmpty refuses arguments and paths that say nothing: a script's variable
// that is not set must not stand for all there is. What exec runs may take them.
func noneEmpty(fs *pflag.FlagSet) (err error) {
	if slices.Contains(fs.Args(), "") && fs.Name() != "exec" {
		return usageError{fmt.Errorf("an argument of %s is empty: is a variable not set? see resagent %s --help", fs.Name(), fs.Name())}
	}
	fs.Visit(func(f *pflag.Flag) {
		what, _ := pflag.UnquoteUsage(f)
		values := []string{f.Value.String()}
		if several, ok := f.Value.(pflag.SliceValue); ok {
			values = several.GetSlice()
		}
		if slices.Contains([]string{"PATH", "FILE", "DIR"}, what) && slices.Contains(values, "") {
			err = usageError{fmt.Errorf("--%s is empty: is a variable not set? write the %s, or leave the option out", f.Name, what)}
		}
	})
	return err
}

// arguments says how many arguments are right.
func arguments(least, most int) string {
	switch {
	case most == 0:
		return "no arguments"
	case least == 0 && most == 1:
		return "1 argument at most"
	case least == most && most == 1:
		return "1 argument"
	case least == most:
		return fmt.Sprintf("%d arguments", most)
	case most > least:
		return fmt.Sprintf("%d to %d arguments", least, most)
	}
	return fmt.Sprintf("%d or more arguments", least)
}

func flagNames(fs *pflag.FlagSet) (names []string) {
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return names
}

// socketFlag declares --socket.
func socketFlag(fs *pflag.FlagSet) *string {
	return fs.String("socket", wire.Socket(), "the `PATH` of the agent's socket")
}

// adminSocketFlag declares --admin-socket. Its value is found with adminSocket
// once the flags are read.
func adminSocketFlag(fs *pflag.FlagSet) *string {
	return fs.String("admin-socket", "", "the `PATH` of the socket for changes (default admin.sock beside the agent's)")
}

// adminSocket is the socket for changes: as given, else beside the agent's.
func adminSocket(given, socket string) string {
	if given != "" {
		return given
	}
	return filepath.Join(filepath.Dir(socket), "admin.sock")
}

// didYouMean is `, did you mean "x"?` for the name nearest to what was typed,
// or nothing if none is near.
func didYouMean(typed string, names []string) string {
	best, least := "", 3 // more than two slips is another word
	if len(typed) < 4 {
		least = 2
	}
	for _, n := range names {
		if d := slips(typed, n); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// slips is the Levenshtein distance of two short words.
func slips(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// oneLine is [printable] for a row of a screen.
func oneLine(s string) string { return printable(strings.ReplaceAll(s, "\n", " ")) }

// printable quotes what a terminal would obey: text from files, peers and the
// command line ends up in messages. Line breaks stay.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\x%02x", r)
		}
	}
	return b.String()
}
