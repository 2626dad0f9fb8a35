package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
)

// version is set by the linker (make install, make deb).
var version = ""

// showVersion is `resagent version`.
func showVersion(_ context.Context, fs *pflag.FlagSet, args []string) error {
	asJSON := fs.Bool("json", false, "print JSON")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *asJSON {
		return printJSON(map[string]string{"version": versionText(), "os": runtime.GOOS, "arch": runtime.GOARCH, "go": runtime.Version()})
	}
	fmt.Fprintf(stdout, "resagent %s %s/%s %s\n", versionText(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return nil
}

// versionText is the version of a release, else the commit, else "unknown".
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	if v := info.Main.Version; v != "" {
		return v
	}
	return "unknown"
}
