//go:build linux

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies/policyfile"
	"github.com/resagent/resagent/transport"
)

const (
	// workerEnv makes this test binary a worker, and names it.
	workerEnv = "RESAGENT_TEST_WORKER"
	// ownPoliciesEnv names a policy file for as long as there is no agent.
	ownPoliciesEnv = "RESAGENT_TEST_POLICIES"
	// stampEnv has the worker say of each call when it was sent.
	stampEnv = "RESAGENT_TEST_STAMP"
	// brokenEnv has every attempt of the worker fail before it leaves; where
	// it is "resolver", because no name is found.
	brokenEnv = "RESAGENT_TEST_BROKEN"
	// dialEnv is the address that the worker connects to, whatever the name.
	dialEnv = "RESAGENT_TEST_DIAL"
	// countEnv has the worker say every second how many goroutines it has.
	countEnv = "RESAGENT_TEST_COUNT"
)

// order is what a worker is told, a line of JSON on its standard input. At its
// end the worker finishes what it began and exits.
type order struct {
	// Attach: wait until the agent's policies are there. A process's first
	// calls wait for them 250 ms at most, and then go on without limits.
	Attach bool
	URL    string
	// Load: so many goroutines call again and again until the next order.
	Load int
	// Pause between two calls of one of them.
	Pause time.Duration
	// Calls: so many calls at once, one each.
	Calls int
	// Also are URLs that the calls of a load go to as well, by chance.
	Also []string
	// Lie: write false failures about the URL's circuit into the page, as fast
	// as possible, until the next order.
	Lie bool
}

// word is what a worker says, a line of JSON on its standard output.
type word struct {
	Failed     string `json:",omitempty"` // a call that was not answered
	At         int64  `json:",omitempty"` // when it failed, on the monotonic clock
	Goroutines int    `json:",omitempty"`
	Report     *report
}

// report is a worker's account of itself.
type report struct {
	Calls, Answered, Failed, OK int64
}

// work is the worker process: a plain client with our transport.
func work() {
	pool := http.DefaultTransport.(*http.Transport)
	pool.MaxIdleConnsPerHost = 100 // else connections come and go with the load
	t := &transport.Transport{}
	if file := os.Getenv(ownPoliciesEnv); file != "" {
		set, err := policyfile.Load(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		t.Policies = set
	}
	if os.Getenv(stampEnv) != "" {
		t.Base = stamping{pool}
	}
	switch os.Getenv(brokenEnv) {
	case "":
	case "resolver":
		pool.DialContext = noNames
	default:
		t.Base = unreachable{}
	}
	if address := os.Getenv(dialEnv); address != "" {
		pool.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	caller, agent := &http.Client{Transport: t}, client.Default()
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(w word) {
		mu.Lock()
		defer mu.Unlock()
		out.Encode(w)
	}
	if os.Getenv(countEnv) != "" {
		go func() {
			for range time.Tick(time.Second) {
				say(word{Goroutines: runtime.NumGoroutine()})
			}
		}()
	}
	var calls, answered, failed, good atomic.Int64
	call := func(url string) {
		calls.Add(1)
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			panic(err)
		}
		req.Header.Set(workerHeader, os.Getenv(workerEnv))
		resp, err := caller.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if err != nil {
			failed.Add(1)
			say(word{Failed: err.Error(), At: int64(monotonic())})
			return
		}
		answered.Add(1)
		if resp.StatusCode == http.StatusOK {
			good.Add(1)
		}
	}
	stop := func() {}
	var running sync.WaitGroup
	for in := json.NewDecoder(bufio.NewReader(os.Stdin)); ; {
		var o order
		err := in.Decode(&o)
		stop()
		if err != nil {
			break
		}
		for o.Attach && agent.Policies() == nil {
			agent.Attach(context.Background())
			<-time.After(10 * time.Millisecond)
		}
		var ctx context.Context
		ctx, stop = context.WithCancel(context.Background())
		for range o.Load {
			running.Go(func() {
				for ctx.Err() == nil {
					call(o.choose())
					if o.Pause > 0 {
						select {
						case <-ctx.Done():
						case <-time.After(o.Pause):
						}
					}
				}
			})
		}
		if o.Lie {
			running.Go(func() { lie(ctx, agent, o.URL) })
		}
		for range o.Calls {
			running.Go(func() { call(o.URL) })
		}
	}
	running.Wait()
	say(word{Report: &report{Calls: calls.Load(), Answered: answered.Load(), Failed: failed.Load(), OK: good.Load()}})
}

// stamping is a base that says when it was given a request.
type stamping struct{ http.RoundTripper }

func (s stamping) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := monotonic()
	req = req.Clone(req.Context())
	req.Header.Set(sentHeader, strconv.FormatInt(int64(sent), 10))
	return s.RoundTripper.RoundTrip(req)
}

// unreachable is a base that reaches nobody.
type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no file descriptors left")
}

// monotonic is the system's monotonic clock, the same for all processes.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// worker is a test's hold on a worker process.
type worker struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when it has said its last word

	mu       sync.Mutex
	failures []string
	failedAt []time.Duration // beside failures, on the monotonic clock
	report   *report
	over     bool

	goroutines atomic.Int64
}

var workers atomic.Int64

// worker starts a process on the host that calls only once it has the agent's
// policies; env are further variables for it.
func (h *host) worker(env ...string) *worker {
	h.t.Helper()
	w := h.newcomer(env...)
	w.order(order{Attach: true})
	return w
}

// newcomer starts a process that has yet to find out whether there is an agent.
func (h *host) newcomer(env ...string) *worker {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	return h.launchWorker(exec.Command(self), env...)
}

// launchWorker starts a process of which only its environment is not decided.
func (h *host) launchWorker(cmd *exec.Cmd, env ...string) *worker {
	h.t.Helper()
	w := &worker{t: h.t, cmd: cmd, name: fmt.Sprint(workers.Add(1)), done: make(chan struct{})}
	w.cmd.Env = h.env(append(env, workerEnv+"="+w.name)...)
	w.begin()
	return w
}

// begin starts the process, and ends it with the test.
func (w *worker) begin() {
	w.t.Helper()
	w.cmd.Stderr = os.Stderr
	if w.cmd.SysProcAttr == nil {
		w.cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	w.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go w.listen(out)
	w.t.Cleanup(func() {
		if all := w.failed(); w.t.Failed() && len(all) > 0 {
			w.t.Logf("worker %s: %d calls failed, the first with: %s", w.name, len(all), all[0])
		}
		w.kill()
	})
}

func (h *host) workers(n int, env ...string) []*worker {
	h.t.Helper()
	all := make([]*worker, n)
	for i := range all {
		all[i] = h.worker(env...)
	}
	return all
}

func (w *worker) listen(out io.Reader) {
	defer close(w.done)
	for in := json.NewDecoder(out); ; {
		var said word
		if in.Decode(&said) != nil {
			return
		}
		w.mu.Lock()
		if said.Failed != "" {
			w.failures = append(w.failures, said.Failed)
			w.failedAt = append(w.failedAt, time.Duration(said.At))
		}
		if said.Goroutines > 0 {
			w.goroutines.Store(int64(said.Goroutines))
		}
		if said.Report != nil {
			w.report = said.Report
		}
		w.mu.Unlock()
	}
}

func (w *worker) order(o order) {
	w.t.Helper()
	line, err := json.Marshal(o)
	if err == nil {
		_, err = w.in.Write(append(line, '\n'))
	}
	if err != nil {
		w.t.Fatalf("worker %s: %v", w.name, err)
	}
}

// load has the worker call u again and again.
func (w *worker) load(u *upstream, path string, goroutines int) {
	w.t.Helper()
	w.order(order{URL: u.server.URL + path, Load: goroutines})
}

// call has the worker make n calls of u at once.
func (w *worker) call(u *upstream, path string, n int) {
	w.t.Helper()
	w.order(order{URL: u.server.URL + path, Calls: n})
}

// failed is what the worker's calls failed with so far.
func (w *worker) failed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.failures...)
}

// mustNotFail reports every call that was not answered.
func (w *worker) mustNotFail() {
	w.t.Helper()
	all := w.failed()
	for _, f := range all[:min(len(all), 3)] {
		w.t.Errorf("worker %s: one of %d failed calls: %s", w.name, len(all), f)
	}
}

// finish lets the worker end what it began, and returns its report.
func (w *worker) finish() report {
	w.t.Helper()
	w.in.Close()
	w.wait()
	if w.report == nil {
		w.t.Fatalf("worker %s ended without a report", w.name)
	}
	return *w.report
}

func (w *worker) signal(s syscall.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		w.t.Fatalf("worker %s: %v: %v", w.name, s, err)
	}
}

// kill ends the worker at whatever instruction it is.
func (w *worker) kill() {
	if !w.over {
		w.cmd.Process.Kill()
		w.wait()
	}
}

func (w *worker) wait() {
	<-w.done
	w.cmd.Wait()
	w.over = true
}
