//go:build linux

package agent

import (
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func watching(t *testing.T) *watcher {
	t.Helper()
	w, err := newWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

func lifePipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return r, w
}

// arrives waits for a word that must come.
func arrives(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing within 20 s", what)
	}
}

func TestWatcherSeesEnds(t *testing.T) {
	w := watching(t)
	r, write := lifePipe(t)
	ended := make(chan struct{})
	if err := w.add(r, false, func() { close(ended) }); err != nil {
		t.Fatal(err)
	}
	write.Write([]byte("what a process writes means nothing"))
	unix.SetNonblock(int(r.Fd()), true)
	write.Close()
	arrives(t, "the end of a pipe", ended)
	w.remove(r)

	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	dead := make(chan struct{})
	if err := w.add(f, true, func() { close(dead) }); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	arrives(t, "the end of a process", dead)
	cmd.Wait()
	w.remove(f)
}

// An event that was fetched before its file was removed is not taken for one
// of a newer file that has the same number by then: a living process would be
// buried.
func TestWatcherKnowsReusedDescriptors(t *testing.T) {
	for range 20 {
		w := watching(t)
		gate, open := lifePipe(t)
		entered, leave := make(chan struct{}), make(chan struct{})
		w.add(gate, false, func() { close(entered); <-leave })
		// While the watcher is busy with the gate two pipes end: it fetches both
		// in one batch, and is busy again with the first of them.
		type pipe struct {
			read, write *os.File
		}
		first, release := make(chan int, 2), make(chan struct{})
		var pipes [2]pipe
		for i := range pipes {
			pipes[i].read, pipes[i].write = lifePipe(t)
			w.add(pipes[i].read, false, func() { first <- i; <-release })
		}
		open.Close()
		arrives(t, "the gate", entered)
		pipes[0].write.Close()
		pipes[1].write.Close()
		close(leave)
		other := pipes[1-<-first]
		number := other.read.Fd()
		w.remove(other.read)
		r, _ := lifePipe(t)
		if r.Fd() != number { // the lowest free number, unless a runtime's file came first
			w.remove(gate)
			close(release)
			continue
		}
		var wrong atomic.Bool
		w.add(r, false, func() { wrong.Store(true) })
		last, end := lifePipe(t)
		done := make(chan struct{})
		w.add(last, false, func() { close(done) })
		close(release)
		end.Close()
		arrives(t, "the last pipe", done)
		if wrong.Load() {
			t.Fatal("a living pipe was reported ended: the event was of an older one with its number")
		}
	}
}

func TestStartTime(t *testing.T) {
	if _, err := startTime(os.Getpid()); err != nil {
		t.Errorf("of this process: %v", err)
	}
	if _, err := startTime(1 << 30); err == nil {
		t.Error("a process that does not exist has a start time")
	}
	start, _ := startTime(os.Getpid())
	f, ok := living(identity{pid: os.Getpid(), start: start})
	if !ok {
		t.Fatal("this process does not live")
	}
	f.Close()
	if _, ok := living(identity{pid: os.Getpid(), start: start + 1}); ok {
		t.Error("another start time is the same process")
	}
	if _, ok := living(identity{pid: 1 << 30}); ok {
		t.Error("a process that does not exist lives")
	}
}
