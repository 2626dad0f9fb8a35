package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// What the part "sessions" measures of an agent in a process of its own: so
// many sessions of four users, 100 upstreams, each session with 10 of them.
const (
	partSessions = "sessions"
	users        = 4
	// idleFor is one look at the processor time, which the kernel counts in
	// hundredths of a second.
	idleFor = 5 * time.Second
)

// crowds are how many sessions.
var crowds = []int{1, 10, 100, 1000}

func sessionsRSS(n int) string { return fmt.Sprintf("RssAnon of the agent, %d sessions", n) }
func sessionsIdle(n int) string {
	return fmt.Sprintf("processor time of the agent, %d sessions, nobody calls", n)
}

// serveAgent is an agent with 100 upstreams, and one for each crowd to contend
// for.
func serveAgent() error {
	set := &policies.Set{Version: 1, Upstreams: make(map[string]policies.Policy)}
	for i := range 100 {
		set.Upstreams[fmt.Sprintf("u%d", i)] = policies.Policy{Bulkhead: &policies.Bulkhead{MaxConcurrent: 1000, MaxWait: time.Minute}}
	}
	for _, n := range crowds {
		set.Upstreams[contested(n)] = policies.Policy{Bulkhead: &policies.Bulkhead{MaxConcurrent: perSession * n, MaxWaiting: 100_000, MaxWait: time.Minute}}
	}
	h, err := newHost(set)
	if err != nil {
		return err
	}
	// For other users than this one.
	if err := os.Chmod(h.dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(h.socket, 0o666); err != nil {
		return err
	}
	fmt.Printf("\n%s\n", h.socket)
	io.Copy(io.Discard, os.Stdin)
	return h.stop()
}

// attachMany is a process with many sessions, each of which has used 10
// upstreams. Its argument says how many, and how many there are of all users.
// When it is told to begin, each wants more of the contested upstream than
// there is.
func attachMany() error {
	var mine, all int
	if _, err := fmt.Sscanf(os.Getenv(childArg), "%d of %d", &mine, &all); err != nil {
		return err
	}
	h := &host{socket: wire.Socket()}
	ctx := context.Background()
	var sessions []*client.Session
	for i := range mine {
		s, err := h.session()
		if err != nil {
			return fmt.Errorf("session %d: %w", i, err)
		}
		for k := range 10 {
			named := s.Policies().Named(fmt.Sprintf("u%d", (i+10*k)%100))
			p, err := s.Limits(named.Name, &named.Policy).Acquire(ctx)
			if err != nil {
				return err
			}
			p.Release()
		}
		sessions = append(sessions, s)
	}
	fmt.Println() // ready
	if n, _ := os.Stdin.Read(make([]byte, 1)); n == 1 {
		for _, s := range sessions {
			crave(s, contested(all))
		}
		fmt.Println() // ready
		io.Copy(io.Discard, os.Stdin)
	}
	return nil
}

// sessions measures memory and idle processor time, and then how long a
// process that comes last waits for its share. An agent has at most 256
// sessions of one user, so this needs root, for others; else it says so and
// measures nothing.
func sessions(book *book) error {
	if os.Getuid() != 0 {
		fmt.Println("The sessions of other users need root: they are left out.")
		return nil
	}
	// A copy that other users can execute.
	dir, err := os.MkdirTemp("", "ra")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	program := filepath.Join(dir, "bench")
	if err := os.WriteFile(program, text, 0o755); err != nil {
		return err
	}
	for _, n := range crowds {
		if err := crowd(book, program, n); err != nil {
			return fmt.Errorf("%d sessions: %w", n, err)
		}
	}
	return nil
}

// crowd is one agent with n sessions.
func crowd(book *book, program string, n int) error {
	agent, err := (&host{}).spawn("agent", "")
	if err != nil {
		return err
	}
	defer agent.end() // it removes its folder
	socket, err := agent.out.ReadString('\n')
	if err != nil {
		return err
	}
	h := &host{socket: strings.TrimSpace(socket)}
	var all []*process
	for i := range min(users, n) {
		p, err := h.spawnAs(program, 64_000+i, "attach", fmt.Sprintf("%d of %d", (n+users-1-i)/users, n))
		if err != nil {
			return err
		}
		defer p.kill()
		all = append(all, p)
	}
	rss := Series{Part: partSessions, Name: sessionsRSS(n), Unit: "MiB", X: float64(n)}
	idle := Series{Part: partSessions, Name: sessionsIdle(n), Unit: "of 1", X: float64(n)}
	time.Sleep(2 * time.Second) // what attaching began has ended
	for range 6 {
		before, err := ticks(agent.Process.Pid)
		if err != nil {
			return err
		}
		time.Sleep(idleFor)
		after, err := ticks(agent.Process.Pid)
		if err != nil {
			return err
		}
		idle.Values = append(idle.Values, float64(after-before)/100/idleFor.Seconds())
		kib, err := rssAnon(agent.Process.Pid)
		if err != nil {
			return err
		}
		rss.Values = append(rss.Values, rounded(kib/1024))
	}
	book.add(rss)
	book.add(idle)
	for _, p := range all {
		if err := p.begin(); err != nil {
			return err
		}
		if _, err := p.out.ReadByte(); err != nil {
			return err
		}
	}
	share, err := newcomers(h, n)
	if err == nil {
		book.add(share)
	}
	return err
}

// ticks is the processor time of a process, in hundredths of a second.
func ticks(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return user + system, err
}

// rssAnon is in KiB.
func rssAnon(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(text), "RssAnon:")
	if !ok {
		return 0, fmt.Errorf("process %d has no RssAnon", pid)
	}
	return strconv.ParseFloat(strings.Fields(rest)[0], 64)
}

// spawnAs starts a child as another user.
func (h *host) spawnAs(program string, uid int, what, arg string) (*process, error) {
	return h.start(program, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}, what, arg)
}
