//go:build linux

// Command simulate says where the design breaks on machines that are not at
// hand: a host of 256 processors and 2,000 processes, and 10,000 hosts that
// call one upstream. It prints what breaks first, and at what number.
//
// The host is driven by the agent's real allocator over real pages, with a
// simulated clock; what each of its decisions takes is measured here and now
// and charged to the simulated agent. The fleet is a model: each host has the
// budget, breaker and probes of DESIGN.md with the built-in figures.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	processors := flag.Int("processors", 256, "of the simulated host")
	most := flag.Int("processes", 2000, "most processes on the host")
	hosts := flag.Int("hosts", 10_000, "most hosts on one upstream")
	message := flag.Duration("message", 5*time.Microsecond, "what reading or writing one message costs the agent (a line of JSON on a Unix socket)")
	delay := flag.Duration("delay", 20*time.Microsecond, "from writing a message to its reader's running")
	call := flag.Duration("call", 60*time.Microsecond, "processor time of one call, in client and kernel")
	seconds := flag.Float64("seconds", 0.1, "simulated time of each host")
	seed := flag.Uint64("seed", 1, "of the simulation's chance")
	flag.Parse()
	cost := costs{message: *message, delay: *delay, call: *call}
	err := hostTable(*processors, *most, cost, time.Duration(*seconds*float64(time.Second)), *seed)
	if err == nil {
		err = stormTable(*most, cost, *seed)
	}
	if err == nil {
		err = bounds(*most)
	}
	if err == nil {
		fleetTable(*hosts, *seed)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}
