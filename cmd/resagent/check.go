package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/policies/policyfile"
)

const (
	defaultPolicies = "/etc/resagent/policies.yaml"
	defaultDropIns  = "/etc/resagent/policies.d"
)

// policyFiles is where policies are read from.
type policyFiles struct {
	flags   *pflag.FlagSet // nil: nothing is read that is not named
	file    *string
	folders *[]string
	// dropIns is read where neither flag is given, if it is there. Once it was
	// it must be: a reload would take away all that its files say.
	dropIns string
	seen    bool
}

// policyFlags declares --policies and --policies-dir.
func policyFlags(fs *pflag.FlagSet) *policyFiles {
	return &policyFiles{
		flags:   fs,
		file:    fs.String("policies", defaultPolicies, "the policy `FILE`"),
		folders: fs.StringArray("policies-dir", nil, "a `DIR` of further *.yaml, *.yml and *.json files, laid over it; may be repeated (default "+defaultDropIns+" if neither this nor --policies is given)"),
		dropIns: defaultDropIns,
	}
}

// load reads the files whole. Errors: policies.Errors, or a file or folder that
// cannot be read. It is not for several goroutines at once.
func (p *policyFiles) load() (*policies.Snapshot, error) {
	folders := *p.folders
	if p.flags != nil && !p.flags.Changed("policies") && !p.flags.Changed("policies-dir") {
		if _, err := os.Lstat(p.dropIns); !errors.Is(err, os.ErrNotExist) {
			p.seen = true
		}
		if p.seen {
			folders = []string{p.dropIns}
		}
	}
	return policyfile.Load(*p.file, folders...)
}

// loadAndFree is load for a process that stays: reading takes a hundred times a
// file's size, which the runtime would keep for long. What the lexer pools goes
// with the second collection.
func (p *policyFiles) loadAndFree() (*policies.Snapshot, error) {
	set, err := p.load()
	runtime.GC()
	debug.FreeOSMemory()
	return set, err
}

// checked is what there is to say of one file, or of one with its drop-ins.
type checked struct {
	File      string             `json:"file"`
	OK        bool               `json:"ok"`
	Upstreams int                `json:"upstreams"`
	Error     string             `json:"error,omitempty"` // where it could not be read
	Mistakes  policies.Errors    `json:"mistakes,omitempty"`
	Warnings  []policies.Warning `json:"warnings,omitempty"`

	AgainstLive *tryout `json:"against_live,omitempty"`

	err error
}

// check is `resagent check`. Without arguments it checks what the agent would
// read, else each file by itself.
func check(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	files := policyFlags(fs)
	strict := fs.Bool("strict", false, "fail on warnings too")
	live := fs.Bool("against-live", false, "tell what the changed limits would have done in the last minutes, by what the agent saw")
	socket := socketFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	if err := parse(fs, args, 0, -1); err != nil {
		return err
	}
	if fs.NArg() > 0 && (fs.Changed("policies") || fs.Changed("policies-dir")) {
		return usageError{errors.New("check takes either files or --policies and --policies-dir, not both")}
	}
	if *live && fs.NArg() > 1 {
		return usageError{errors.New("check --against-live takes one file, the whole set as it would be")}
	}
	var all []checked
	var set *policies.Snapshot
	if fs.NArg() == 0 {
		var err error
		set, err = files.load()
		all = append(all, checkedOf(*files.file, set, err, *strict))
	}
	for _, name := range fs.Args() {
		var err error
		set, err = policyfile.Load(name)
		all = append(all, checkedOf(name, set, err, *strict))
	}
	if *live && set != nil {
		found, err := againstLive(ctx, *socket, set)
		if err != nil {
			return err
		}
		all[0].AgainstLive = &found
	}
	var failed error
	for _, c := range all {
		if !c.OK {
			failed = errShown
		}
		if !*asJSON {
			c.print()
		}
	}
	if *asJSON {
		if err := printJSON(map[string]any{"ok": failed == nil, "files": all}); err != nil {
			return err
		}
	}
	return failed
}

// checkedOf takes what loading a file gave.
func checkedOf(file string, set *policies.Snapshot, err error, strict bool) checked {
	c := checked{File: file, Upstreams: set.Len(), Warnings: set.Warnings(), err: err}
	if err != nil && !errors.As(err, &c.Mistakes) {
		c.Error = err.Error()
	}
	if strict && err == nil && len(c.Warnings) > 0 {
		c.err = fmt.Errorf("%s: %s, and --strict allows none", file, count(len(c.Warnings), "warning", "warnings"))
	}
	c.OK = c.err == nil
	return c
}

func (c checked) print() {
	for _, w := range c.Warnings {
		fmt.Fprintln(os.Stderr, printable(w.String()))
	}
	switch {
	case c.err != nil:
		printError(c.err)
	case len(c.Warnings) > 0:
		fmt.Fprintf(stdout, "%s: ok, %s, %s\n", c.File, count(c.Upstreams, "upstream", "upstreams"), count(len(c.Warnings), "warning", "warnings"))
	default:
		fmt.Fprintf(stdout, "%s: ok, %s\n", c.File, count(c.Upstreams, "upstream", "upstreams"))
	}
	if c.AgainstLive != nil {
		c.AgainstLive.print(stdout)
	}
}
