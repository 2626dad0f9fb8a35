package main

import (
	"context"
	"errors"
	"fmt"

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
	file    *string
	folders *[]string
}

// policyFlags declares --policies and --policies-dir.
func policyFlags(fs *pflag.FlagSet) policyFiles {
	return policyFiles{
		file:    fs.String("policies", defaultPolicies, "the policy `FILE`"),
		folders: fs.StringArray("policies-dir", nil, "a `DIR` of further *.yaml files, laid over it; may be repeated (default "+defaultDropIns+" if --policies is not given)"),
	}
}

// load reads the files whole. Errors: policies.Errors, or a file that cannot
// be read.
func (p policyFiles) load() (*policies.Snapshot, error) {
	folders := *p.folders
	if len(folders) == 0 && *p.file == defaultPolicies {
		folders = []string{defaultDropIns}
	}
	return policyfile.Load(*p.file, folders...)
}

// check is `resagent check`. Without arguments it checks what the agent would
// read, else each file by itself.
func check(_ context.Context, fs *pflag.FlagSet, args []string) error {
	files := policyFlags(fs)
	if err := parse(fs, args, 0, -1); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		set, err := files.load()
		if err != nil {
			return err
		}
		fmt.Printf("%s: ok, %s\n", *files.file, count(set.Len(), "upstream", "upstreams"))
		return nil
	}
	if fs.Changed("policies") || fs.Changed("policies-dir") {
		return usageError{errors.New("check takes either files or --policies and --policies-dir, not both")}
	}
	var failed error
	for _, name := range fs.Args() {
		set, err := policyfile.Load(name)
		if err != nil {
			printError(err)
			failed = errShown
			continue
		}
		fmt.Printf("%s: ok, %s\n", name, count(set.Len(), "upstream", "upstreams"))
	}
	return failed
}
