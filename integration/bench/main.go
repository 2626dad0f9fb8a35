// Command bench measures what this project costs, beside its peers, all in one
// run: the things to compare take turns, several times, and one table shows
// medians with their spread. Nothing here passes or fails by time.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

func main() {
	if os.Getenv(contenderEnv) != "" {
		contend()
		return
	}
	testing.Init()
	rounds := flag.Int("rounds", 10, "how often each thing is measured")
	each := flag.Duration("each", 200*time.Millisecond, "how long each measurement goes on")
	flag.Parse()
	if err := flag.Set("test.benchtime", each.String()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Printf("%s %s/%s, %d processors, %d rounds of %v, medians with their 95%% confidence interval\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), *rounds, *each)
	for _, part := range []func(rounds int) error{calls, permits, handOver, lookups} {
		if err := part(*rounds); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
}
