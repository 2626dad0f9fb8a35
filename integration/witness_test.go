//go:build linux

package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/client"
)

// One process of twenty finds no name any more: the others see no refusal, and
// the agent says whose trouble it is.
func TestBrokenResolverIsOwnTrouble(t *testing.T) {
	u := newUpstream(t, seeded(t))
	h := newHost(t, fmt.Sprintf(circuitPolicies, "shop.test", "host"))
	h.start()
	const url = "http://shop.test"
	well := h.workers(19, dialEnv+"="+u.host())
	for _, w := range well {
		w.order(order{URL: url + pathNow, Load: 1, Pause: 20 * time.Millisecond})
	}
	ill := h.worker(brokenEnv + "=resolver")
	ill.order(order{URL: url + pathNow, Load: 1, Pause: 5 * time.Millisecond})
	h.eventually("called by all", func() bool { return h.circuit().Callers == 20 })
	h.eventually("the trouble is known as its own", func() bool { return h.circuit().OwnTroubles[ill.cmd.Process.Pid] >= 20 })
	h.eventually("its own circuit open", func() bool {
		failed := ill.failed()
		return strings.Contains(failed[len(failed)-1], "circuit open")
	})
	u.further(40 * len(well))
	noneRefused(h, well)
	if len(h.circuit().OwnTroubles) != 1 {
		t.Errorf("own troubles: %v, want those of one process", h.circuit().OwnTroubles)
	}
	ill.finish()
}

// One process of twenty writes false failures into its page as fast as it can:
// the others see no refusal.
func TestLiarIsNotBelieved(t *testing.T) {
	u := newUpstream(t, seeded(t))
	h := newHost(t, fmt.Sprintf(circuitPolicies, u.host(), "host"))
	h.start()
	well := h.workers(19)
	pace(well, u, pathNow, 20*time.Millisecond)
	liar := h.worker()
	liar.call(u, pathNow, 1)
	h.eventually("called by all", func() bool { return h.circuit().Callers == 20 })
	liar.order(order{URL: u.server.URL, Lie: true})
	h.eventually("the lies are read", func() bool { return h.circuit().OwnTroubles[liar.cmd.Process.Pid] > 1000 })
	u.further(40 * len(well))
	liar.order(order{})
	noneRefused(h, well)
	liar.finish()
}

// noneRefused looks that the circuit was not opened while all were there, and
// ends the workers, of which no call failed. Once these have ended, the one
// that is left speaks for all callers, and may open it.
func noneRefused(h *host, well []*worker) {
	h.t.Helper()
	if strings.Contains(h.logged(), "state=open") {
		h.t.Error("the circuit was opened for the host")
	}
	calls := int64(0)
	for _, w := range well {
		r := w.finish()
		if r.Failed != 0 || r.OK != r.Calls || r.Calls == 0 {
			h.t.Errorf("worker %s: %+v, want no failure", w.name, r)
		}
		calls += r.Calls
		w.mustNotFail()
	}
	h.t.Logf("%d calls, none refused", calls)
}

// lie writes any words into the process's first outcome cell, and tells the
// agent of failures, until ctx ends. It knows no shame but the kernel's: the
// page is found in the process's own map.
func lie(ctx context.Context, s *client.Session, url string) {
	at, err := ownPage()
	if err != nil {
		panic(err)
	}
	memory, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer memory.Close()
	const firstOutcome = 33792
	c := s.Circuit("shop", url)
	for n := uint64(1); ctx.Err() == nil; n++ {
		var words [8]uint64 // good, bad, own, run, last, dirty, slow, mark
		words[1] = []uint64{n * 1000, n << 20, math.MaxUint64 - n, rand.Uint64()}[n%4]
		words[2] = n
		words[3] = []uint64{math.MaxUint64, n, 1 << 20}[n%3]
		words[4] = uint64(client.SinceBoot(time.Now()) / (100 * time.Millisecond))
		words[6] = words[1]
		var cell [64]byte
		for i, w := range words {
			binary.NativeEndian.PutUint64(cell[8*i:], w)
		}
		if _, err := memory.WriteAt(cell[:], at+firstOutcome); err != nil {
			panic(err)
		}
		c.Bad(time.Now())
	}
}

// ownPage is where this process has its page: the memfd that it may write.
func ownPage() (int64, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "rw-s") && strings.Contains(line, "memfd:") {
			from, _, _ := strings.Cut(line, "-")
			return strconv.ParseInt(from, 16, 64)
		}
	}
	return 0, errors.New("no page in the process's map")
}

// One of two authorities behind one policy is dead: its circuit opens, and no
// call to the other one is refused.
func TestAuthoritiesHaveTheirOwnCircuits(t *testing.T) {
	live, dead := newUpstream(t, seeded(t)), newUpstream(t, seeded(t))
	h := newHost(t, fmt.Sprintf(circuitPolicies, "127.0.0.1", "host"))
	h.start()
	callers, others := h.workers(6), h.workers(6)
	pace(callers, live, pathNow, 10*time.Millisecond)
	pace(others, dead, pathFail, 10*time.Millisecond)
	opened := func(u *upstream) bool { return strings.Contains(h.logged(), "authority="+u.server.URL+" state=open") }
	h.eventually("the dead one's circuit open", func() bool { return opened(dead) })
	// The same processes call both.
	for _, w := range append(callers, others...) {
		w.order(order{URL: live.server.URL + pathNow, Load: 2, Pause: 10 * time.Millisecond, Also: []string{dead.server.URL + pathFail}})
	}
	live.further(300)
	for _, w := range append(callers, others...) {
		w.finish()
		for _, why := range w.failed() {
			if strings.Contains(why, live.server.URL) {
				t.Fatalf("worker %s: a call of the live one failed: %s", w.name, why)
			}
		}
	}
	if opened(live) {
		t.Error("the live one's circuit was opened")
	}
}

// A tenth of an upstream's paths fails, under the default policy: no call of
// another path is refused, nor one of these.
func TestFailingPathsRefuseNobody(t *testing.T) {
	var calls, failed atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.URL.Path == "/0" {
			failed.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	h := newHost(t, fmt.Sprintf("version: 1\nupstreams:\n  shop:\n    match: [{host: %q}]\n", strings.TrimPrefix(server.URL, "http://")))
	h.start()
	o := order{URL: server.URL + "/0", Load: 1, Pause: 10 * time.Millisecond}
	for path := range 9 {
		o.Also = append(o.Also, fmt.Sprintf("%s/%d", server.URL, path+1))
	}
	all := h.workers(10)
	for _, w := range all {
		w.order(o)
	}
	h.eventually("3,000 calls", func() bool { return calls.Load() >= 3000 })
	for _, w := range all {
		if r := w.finish(); r.Failed != 0 {
			t.Errorf("worker %s: %d of %d calls were refused", w.name, r.Failed, r.Calls)
		}
		w.mustNotFail()
	}
	t.Logf("%d calls, %d failed, none refused", calls.Load(), failed.Load())
	if failed.Load() < calls.Load()/20 {
		t.Errorf("%d of %d calls failed, want about a tenth", failed.Load(), calls.Load())
	}
	if strings.Contains(h.logged(), "state=open") {
		t.Error("the circuit was opened for the host")
	}
}

// choose is where a call of a load goes.
func (o *order) choose() string {
	if i := rand.IntN(len(o.Also) + 1); i > 0 {
		return o.Also[i-1]
	}
	return o.URL
}

// noNames is a dialer whose resolver answers nothing.
func noNames(ctx context.Context, network, address string) (net.Conn, error) {
	nobody := func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("the resolver is not there")
	}
	return (&net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: nobody}}).DialContext(ctx, network, address)
}
