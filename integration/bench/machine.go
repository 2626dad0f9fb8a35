package main

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where a run was. It names no host and no path.
type Machine struct {
	CPU        string // model
	Processors int    // that the run could use
	Kernel     string
	Go         string
	Peers      []string // modules compared with, with their versions
}

func machine() Machine {
	m := Machine{CPU: "unknown", Processors: runtime.GOMAXPROCS(0), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release, _, _ := bytes.Cut(u.Release[:], []byte{0})
		m.Kernel = "Linux " + string(release)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "github.com/failsafe-go/failsafe-go", "github.com/hashicorp/go-retryablehttp", "github.com/gojek/heimdall/v7", "github.com/gregjones/httpcache":
				m.Peers = append(m.Peers, d.Path+" "+d.Version)
			}
		}
	}
	return m
}
