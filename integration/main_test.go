//go:build linux

package integration

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// soon is for what must come, on the slowest machine.
	soon = 30 * time.Second
	// seedEnv and soakEnv set the seed of random tests, and how long the one
	// over kills goes on, as in SOAK=5m.
	seedEnv = "SEED"
	soakEnv = "SOAK"
)

// resagent is the path of the binary under test.
var resagent string

// TestMain builds the binary once. In a process that a test started as a
// worker it is the worker.
func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		work()
		return
	}
	if os.Getenv(cacheWorkerEnv) != "" {
		cacheWork()
		return
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ra")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	resagent = filepath.Join(dir, "resagent")
	args := []string{"build", "-o", resagent}
	if raceDetector {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "../cmd/resagent")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// seeded gives a test's source of chance, and prints how to have it again.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s=%q is no number", seedEnv, s)
		}
	}
	t.Logf("%s=%d", seedEnv, seed)
	h := fnv.New64()
	h.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// eventually waits for a condition, and fails if it does not come about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	if !within(soon, is) {
		t.Fatalf("not within %v: %s", soon, what)
	}
}

// eventually waits for a condition, and shows the agent's account if it does
// not come about.
func (h *host) eventually(what string, is func() bool) {
	h.t.Helper()
	if !within(soon, is) {
		_, body, err := h.get("/v1/status")
		h.t.Fatalf("not within %v: %s; the agent's status: %v\n%s", soon, what, err, body)
	}
}

// within looks again and again whether a condition holds.
func within(d time.Duration, is func() bool) bool {
	end := time.NewTimer(d)
	defer end.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !is() {
		select {
		case <-again.C:
		case <-end.C:
			return is()
		}
	}
	return true
}

// throughout watches that a condition holds for a time.
func throughout(t *testing.T, d time.Duration, what string, is func() bool) {
	t.Helper()
	if within(d, func() bool { return !is() }) {
		t.Fatalf("not throughout %v: %s", d, what)
	}
}
