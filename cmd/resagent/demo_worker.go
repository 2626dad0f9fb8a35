package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/transport"
)

// worker is one of the demo's processes that call the upstream. All it knows
// of policies and limits is that its http.Client has our transport.
type worker struct {
	index  int
	base   string // of the upstream's URLs
	tape   *tape
	client *http.Client
	serial atomic.Uint64
}

// runWorker fetches every key once, and then calls until it is killed.
func runWorker(ctx context.Context, tapePath, base string, index int, seed uint64) error {
	t, err := openTape(tapePath)
	if err != nil {
		return err
	}
	w := &worker{index: index, base: base, tape: t}
	w.client = &http.Client{Transport: &transport.Transport{Observe: w.observe}}
	if err := w.attach(ctx); err != nil {
		return err
	}
	if err := w.fetchAll(ctx, rand.New(rand.NewPCG(seed, uint64(index)))); err != nil {
		return err
	}
	t.head.Ready.Store(1)

	var wg sync.WaitGroup
	for on, callers := range demoCallers {
		for i := range callers {
			random := rand.New(rand.NewPCG(seed, uint64(index)<<16|uint64(on)<<8|uint64(i)))
			wg.Go(func() { w.callOn(ctx, route(on), random) })
		}
	}
	wg.Wait()
	return nil
}

// attach waits for the session. A transport does not need that: where the
// agent is late it begins without. The demo counts from the first call on.
func (w *worker) attach(ctx context.Context) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		client.Default().Attach(ctx)
		if client.Default().Mode() == client.Attached && client.Default().Policies() != nil {
			return nil
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			break
		}
	}
	return errors.New("no session with the agent within 10s")
}

// fetchAll fetches every key of the catalog once, so that each has an answer
// in this process's cache.
func (w *worker) fetchAll(ctx context.Context, random *rand.Rand) error {
	keys := make(chan int, demoKeys)
	for _, key := range random.Perm(demoKeys) {
		keys <- key
	}
	close(keys)
	wrong := make(chan int, demoKeys)
	var wg sync.WaitGroup
	for range demoCallers[catalog] {
		wg.Go(func() {
			for key := range keys {
				if w.call(ctx, catalog, key) != answered {
					wrong <- key
				}
			}
		})
	}
	wg.Wait()
	if n := len(wrong); n > 0 {
		return fmt.Errorf("%s of the catalog could not be fetched at the start", count(n, "key", "keys"))
	}
	return nil
}

// callOn calls one route, one call after the other.
func (w *worker) callOn(ctx context.Context, on route, random *rand.Rand) {
	think := 40 * time.Millisecond
	if on == orders {
		think = 100 * time.Millisecond
	}
	for pause(ctx, time.Duration(float64(think)*(0.5+random.Float64()))) == nil {
		w.call(ctx, on, random.IntN(demoKeys))
	}
}

// call makes one original request, and writes down what became of it.
func (w *worker) call(ctx context.Context, on route, key int) outcome {
	id := uint64(w.index)<<48 | w.serial.Add(1)
	began := monotonic()
	var info transport.Info
	o := w.get(transport.WithInfo(ctx, &info), fmt.Sprintf("/%s/%d", on, key), id, &info)
	w.tape.write(record{
		Kind: called, Route: on, ID: id, Ref: uint32((monotonic() - began) / time.Microsecond),
		Outcome: o, Attempts: uint8(info.Attempts), Waited: uint32(info.Waited / time.Microsecond),
	})
	return o
}

func (w *worker) get(ctx context.Context, path string, id uint64, info *transport.Info) outcome {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+path, nil)
	if err != nil {
		return errored
	}
	req.Header.Set(demoHeader, strconv.FormatUint(id, 10))
	resp, err := w.client.Do(req)
	if no := new(transport.RejectedError); errors.As(err, &no) {
		return refused
	}
	if err != nil {
		return errored
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return errored
	case info.Served == transport.FromStatic:
		return static
	case resp.StatusCode != http.StatusOK || string(body) != path+" is well":
		return different
	case info.Served == transport.FromStale:
		return stale
	}
	return answered
}

// observe is the transport's hook.
func (w *worker) observe(e transport.Event) {
	on, known := routeOf(e.Upstream)
	if !known {
		return
	}
	switch {
	case e.Kind == transport.CircuitOpened:
		w.tape.head.Open[on].Store(1)
		w.tape.write(record{Kind: opened, Route: on, ID: uint64(w.index) << 48})
	case e.Kind == transport.CircuitClosed:
		w.tape.head.Open[on].Store(0)
		w.tape.write(record{Kind: closed, Route: on, ID: uint64(w.index) << 48})
	case e.Kind == transport.Attempted && e.Err != nil:
		w.tape.write(record{Kind: failed, Route: on, ID: uint64(w.index) << 48})
	}
}

// pause waits. It returns an error if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
