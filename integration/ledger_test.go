//go:build linux

package integration

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/resagent/resagent/agent/wire"
)

// An agent that finds its ledger gone or damaged gives out nothing that may
// be out already.
func TestLedgerLost(t *testing.T) {
	for name, damage := range map[string]func(path string, random *rand.Rand) error{
		"deleted":   func(path string, _ *rand.Rand) error { return os.Remove(path) },
		"empty":     func(path string, _ *rand.Rand) error { return os.Truncate(path, 0) },
		"truncated": func(path string, random *rand.Rand) error { return os.Truncate(path, random.Int64N(1<<20)) },
		"garbage":   scribble,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit, processes = 5, 3
			random := seeded(t)
			u := newUpstream(t, random)
			h := newHost(t, bulkhead(u, limit))
			h.start()
			u.allow(limit)
			all := h.workers(processes)
			for _, w := range all {
				w.load(u, pathWork, 4)
			}
			h.sessions(processes)
			u.further(100)
			if s := h.status(); s.Ledger != "kept" {
				t.Errorf("the first agent's ledger is %q, want kept", s.Ledger)
			}
			h.kill()
			if err := damage(h.path("ledger"), random); err != nil {
				t.Fatal(err)
			}
			// One that holds permits does not come back.
			all[0].kill()
			h.start()
			if s := h.status(); s.Ledger != "lost" {
				t.Errorf("the ledger is %q, want lost", s.Ledger)
			}
			h.sessions(processes - 1)
			h.eventually("all of the limit is in use again", func() bool { return h.limit("shop", wire.Bulkhead).InUse == limit })
			u.further(200)
			for _, w := range all[1:] {
				w.finish()
				w.mustNotFail()
			}
			allFree(h)
			noneGranted(h)
			// The ledger it has now is a good one.
			h.kill()
			h.start()
			if s := h.status(); s.Ledger != "kept" {
				t.Errorf("the next agent's ledger is %q, want kept", s.Ledger)
			}
		})
	}
}

// scribble puts chance bytes over the whole file.
func scribble(path string, random *rand.Rand) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return os.WriteFile(path, data, 0o600)
}

// A word of the ledger that changed is found, wherever it is.
func TestLedgerDamagedWord(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	const limit = 4
	u := newUpstream(t, random)
	h := newHost(t, bulkhead(u, limit))
	h.start()
	u.allow(limit)
	w := h.worker()
	w.call(u, pathHold, limit)
	u.inFlight(limit)
	h.kill()
	data, err := os.ReadFile(h.path("ledger"))
	if err != nil {
		t.Fatal(err)
	}
	// Entries are the last part of the file (agent/ledger.go); one that is in
	// use is not zero.
	var used []int
	for i := len(data) - 65536*16; i < len(data); i += 16 {
		if data[i] != 0 {
			used = append(used, i)
		}
	}
	if len(used) == 0 {
		t.Fatal("no entry in the ledger with all permits out")
	}
	data[used[random.IntN(len(used))]+random.IntN(16)] ^= byte(1 << random.IntN(8))
	if err := os.WriteFile(h.path("ledger"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	other := h.worker()
	other.call(u, pathHold, limit)
	h.eventually("the other process waits, and what is in flight counts", func() bool {
		l := h.limit("shop", wire.Bulkhead)
		return l.Waiting == limit && l.InUse+l.Extra == limit
	})
	if s := h.status(); s.Ledger != "lost" {
		t.Errorf("the ledger is %q, want lost", s.Ledger)
	}
	u.release()
	for _, w := range []*worker{w, other} {
		w.finish()
		w.mustNotFail()
	}
	noneGranted(h)
}
