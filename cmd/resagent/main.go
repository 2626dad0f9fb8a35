package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/policies"
)

// command is one subcommand. run declares its flags on fs, reads args with
// [parse], and writes its results to standard output; its error is printed
// with "resagent: " before it.
type command struct {
	name    string
	args    string // as shown after the name in a usage line
	summary string // begins with a verb
	run     func(ctx context.Context, fs *pflag.FlagSet, args []string) error
}

// commands is every subcommand but help, in the order in which help shows
// them. A new one is one line here and a file of its own.
var commands = []command{
	{"serve", "", "Run the agent", serve},
	{"check", "[FILE...]", "Check policy files: all errors at once, and warnings of what is hardly meant", check},
	{"status", "[UPSTREAM]", "Show how the upstreams of the host are, and why; or all that is known of one", status},
	{"top", "", "Watch the upstreams and processes of the host, live; h shows the keys", top},
	{"explain", "METHOD URL | --upstream NAME", "Show which policy a call gets, and where it is written", explain},
	{"breaker", "UPSTREAM open|close|auto", "Force an upstream's circuits open or closed for a time, or leave them to the evidence again", breaker},
	{"events", "", "Show what happened of late: circuits, reloads and what they changed, orders, overrides, sessions", showEvents},
	{"exec", "UPSTREAM -- COMMAND [ARG...]", "Run a command that holds one of the host's permits", execute},
	{"fetch", "URL", "Send a request as the host's programs do: the body on standard output, what each layer did on standard error", fetch},
	{"override", "UPSTREAM KEY=VALUE... | clear UPSTREAM | clear --all | list", "Lay values over the policy files for a time", override},
	{"reload", "", "Make the agent read its policies again", reload},
	{"cache", "list DIR [PREFIX] | show DIR URL | purge DIR [URL]", "Look into the folder of a fallback cache; purge one URL, or without a URL all", cache},
	{"demo", "", "See it work on real processes: at most 60 s, no root", demo},
	{"completion", "bash|zsh|fish", "Print a script for completion: source <(resagent completion bash)", completion},
	{"version", "", "Show the version", showVersion},
}

// usageError is an error of the one who typed the command: exit code 2.
type usageError struct{ error }

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

// errShown is an error that has been printed already.
var errShown = errors.New("already shown")

func main() {
	os.Exit(run(context.Background(), os.Args[1:]))
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string) int {
	err := dispatch(ctx, args)
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		err = stdout.failed()
	}
	var usage usageError
	var coded exitError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errShown):
		return 1
	}
	printError(err)
	switch {
	case errors.As(err, &usage):
		return 2
	case errors.As(err, &coded):
		return coded.code
	}
	return 1
}

// printError shows an error on standard error. Mistakes in policies stand on a
// line each, file and line first, as editors expect it.
func printError(err error) {
	text := err.Error()
	if mistakes := (policies.Errors)(nil); errors.As(err, &mistakes) {
		fmt.Fprintln(os.Stderr, printable(text))
		text = count(len(mistakes), "mistake", "mistakes") + " in the policies, as shown above; correct the files"
	}
	// A library's prefix says which package; the reader needs the program's.
	for _, prefix := range []string{"agent: ", "policies: ", "fallbackcache: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	fmt.Fprintln(os.Stderr, "resagent:", printable(text))
}

// dispatch finds the subcommand and runs it.
func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		help(os.Stderr)
		return usageError{errors.New("no subcommand is given; see above")}
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "--help":
		if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
			help(stdout)
			return nil
		}
		name, args = args[0], []string{"--help"}
	case "--version":
		name = "version"
	case "__complete":
		complete(ctx, stdout, args)
		return nil
	case "__man":
		manual(stdout)
		return nil
	case "__man-policies":
		return policiesManual(stdout)
	}
	if strings.HasPrefix(name, "-") {
		return usageError{fmt.Errorf("%q stands before the subcommand: write it after, as in resagent status --socket PATH; see resagent help", name)}
	}
	names := []string{"help"}
	for _, c := range commands {
		if c.name == name {
			return c.run(ctx, newFlags(c), args)
		}
		names = append(names, c.name)
	}
	return usageError{fmt.Errorf("unknown subcommand %q%s; see resagent help", name, didYouMean(name, names))}
}

// help lists the subcommands, for terminals of 80 columns.
func help(w io.Writer) {
	fmt.Fprint(w, "resagent shares resilience policies and limits between the processes of a host.\n\nUsage: resagent COMMAND [OPTIONS]\n\n")
	for _, c := range append(slices.Clone(commands), command{name: "help", summary: "Show this, or with a COMMAND its arguments and options"}) {
		for i, row := range fold(c.summary, 66) {
			if i > 0 {
				c.name = ""
			}
			fmt.Fprintf(w, "  %-10s  %s\n", c.name, row)
		}
	}
	fmt.Fprint(w, `
RESAGENT_SOCKET names the agent's socket where it is not
/run/resagent/agent.sock. A duration is written 300ms, 10s, 5m or 1h.
More: resagent(1); what a policy may say: resagent-policies(5).
`)
}
