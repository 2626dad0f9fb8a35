//go:build linux

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/agent/wire"
	"github.com/resagent/resagent/policies"
)

// A hello with anything but a page and a pipe is refused with the reason, and
// leaves nothing open.
func TestHelloRefused(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	o := bring(t)
	hello := &wire.Message{Type: wire.Hello, Version: 1}
	for name, one := range map[string]struct {
		m     *wire.Message
		files []*os.File
		want  string
	}{
		"a pipe for a page": {hello, []*os.File{o.read, o.read}, "not a memory file"},
		"the page alone":    {hello, []*os.File{o.file}, "1 descriptors"},
		"the other way":     {hello, []*os.File{o.read, o.file}, "not a memory file"},
		"version 0":         {&wire.Message{Type: wire.Hello}, []*os.File{o.file, o.read}, "version 0"},
		"another message":   {&wire.Message{Type: wire.Want, Version: 1}, []*os.File{o.file, o.read}, `"want"`},
		"another, no files": {&wire.Message{Type: wire.Bye, Version: 1}, nil, `"bye"`},
		"far too long":      {&wire.Message{Type: wire.Hello, Version: 1, Library: strings.Repeat("x", 3*wire.MaxLine)}, []*os.File{o.file, o.read}, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			before := descriptors(t)
			r := h.upgrade()
			r.t = t
			// It may hang up before it has read a message that is far too long.
			if err := wire.SendFiles(r.unix, one.m, one.files...); err != nil && one.want != "too long" {
				t.Fatal(err)
			}
			m := r.answer()
			if m.Type != wire.Refuse || !strings.Contains(m.Reason, one.want) {
				t.Errorf("the agent says %+v, want that it refuses with %q", m, one.want)
			}
			r.ends("refused")
			r.unix.Close()
			until(t, "closed everything", func() bool { return descriptors(t) <= before })
		})
	}
	t.Run("garbage", func(t *testing.T) {
		r := h.upgrade()
		r.t = t
		io.WriteString(r.unix, "what?\n")
		if m := r.answer(); m.Type != wire.Refuse || m.Reason == "" {
			t.Errorf("the agent says %+v, want that it refuses", m)
		}
	})
	if s := h.running.Status(); len(s.Sessions) != 0 || len(s.Limits) != 0 {
		t.Errorf("status %+v after refusals only", s)
	}
}

// Who says nothing after the 101 is let go.
func TestNoHello(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	r := h.upgrade()
	began := time.Now()
	if m := r.answer(); m.Type != wire.Refuse {
		t.Errorf("the agent says %+v, want that it refuses", m)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("let go after %v", took)
	}
}

// A session lives through lines that are no messages, and ends with one that
// has no end.
func TestLinesInASession(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	o := bring(t)
	r, _ := h.greet(o)
	if m := r.next(wire.Policies); m.Generation != 1 || m.Set == nil {
		t.Errorf("policies %+v, want the first generation", m)
	}
	io.WriteString(r.unix, "garbage\n\n{\"type\":\n{}\n[]\n\x00\xff\n")
	for _, m := range []*wire.Message{
		{Type: "unheard of"}, {Type: wire.Open}, {Type: wire.Hello, Version: 1}, {Type: wire.Welcome},
		{Type: wire.Want, Indexes: []int{-1, 511, 512, 1 << 40}}, {Type: wire.Free, Indexes: make([]int, 3000)},
	} {
		r.conn.Send(m)
	}
	for _, one := range []wire.Cell{{Upstream: "nobody", Kind: wire.Bulkhead}, {Upstream: "shop", Kind: "none"}, {}} {
		r.conn.Send(&wire.Message{Type: wire.Open, Cell: &one})
		if c := r.next(wire.Assign).Cell; c.Index != -1 || c.Reason == "" || c.Upstream != one.Upstream || c.Kind != one.Kind {
			t.Errorf("open %+v is answered %+v, want no cell and a reason", one, c)
		}
	}
	r.open(o, 1)
	io.WriteString(r.unix, strings.Repeat("x", 2*wire.MaxLine)+"\n")
	r.ends("after a line of 128 KiB")
}

// Without a page there are the policies, and nothing else.
func TestPoliciesOnly(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	r := h.upgrade()
	if m := r.hello(&wire.Message{Type: wire.Hello, Version: 99}); m.Type != wire.Welcome || m.Version != wire.Version {
		t.Fatalf("the agent says %+v, want welcome in its own version", m)
	}
	r.conn.Send(&wire.Message{Type: wire.Open, Cell: &wire.Cell{Upstream: "shop", Kind: wire.Bulkhead}})
	r.conn.Send(&wire.Message{Type: wire.Bye})
	r.next(wire.Policies)
	h.set.Store(bulkhead(4, 10, time.Second))
	if _, err := h.running.Reload(); err != nil {
		t.Fatal(err)
	}
	if m := r.next(wire.Policies); m.Generation != 2 || m.Set.Upstreams["shop"].Bulkhead.MaxConcurrent != 4 {
		t.Errorf("after a reload: %+v", m)
	}
	if s := h.running.Status().Sessions; len(s) != 1 || s[0].Shares || s[0].PID != os.Getpid() {
		t.Errorf("sessions %+v, want one of this process that shares nothing", s)
	}
}

// A second connection with the same page takes over: what is held stays held,
// once.
func TestTakeover(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	o := bring(t)
	first, _ := h.greet(o)
	c, w := first.open(o, 2)
	second, m := h.greet(o, w)
	if len(m.Cells) != 1 || m.Cells[0].Index != w.Index || m.Cells[0].Epoch != w.Epoch {
		t.Errorf("accepted %+v, want %+v", m.Cells, w)
	}
	first.ends("taken over")
	if l := h.limit(); l.InUse != 2 || l.Processes != 1 {
		t.Errorf("status %+v, want two in use by one process", l)
	}
	// The older connection's end is no end of the process, nor is a message
	// that comes late.
	until(t, "one session", func() bool { return len(h.running.Status().Sessions) == 1 })
	if word := c.Read(); word.InUse != 2 || word.Epoch != w.Epoch {
		t.Errorf("the cell has %+v, want the two in use", word)
	}
	second.conn.Send(&wire.Message{Type: wire.Open, Cell: &wire.Cell{Upstream: "shop", Kind: wire.Bulkhead}})
	if got := second.next(wire.Assign).Cell; got.Index != w.Index || got.Epoch != w.Epoch {
		t.Errorf("open again gives %+v, want %+v", got, w)
	}
}

// bye, and the end of the life pipe, free what was held; the end of a
// connection does not.
func TestWhatFreesPermits(t *testing.T) {
	for name, one := range map[string]struct {
		end   func(r *raw, o *own)
		frees bool
	}{
		"bye":             {func(r *raw, _ *own) { r.conn.Send(&wire.Message{Type: wire.Bye}) }, true},
		"life pipe":       {func(_ *raw, o *own) { o.write.Close() }, true},
		"lost connection": {func(r *raw, _ *own) { r.unix.Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, bulkhead(2, 10, 20*time.Second))
			o := bring(t)
			r, _ := h.greet(o)
			r.open(o, 2)
			l := limitsOf(h.session(), "shop")
			one.end(r, o)
			if !one.frees {
				until(t, "lost", func() bool { return len(h.running.Status().Sessions) == 1 })
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if _, err := l.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a permit of a process that lives: %v", err)
				}
				return
			}
			p, err := l.Acquire(t.Context())
			if err != nil {
				t.Fatalf("the permit did not come back: %v", err)
			}
			p.Release()
			until(t, "forgotten", func() bool { return h.limit().Processes == 1 })
		})
	}
}

// A reload to a much larger set is pushed to sessions that began with a small
// one, without losing any.
func TestLargeReloadKeepsSessions(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	o := bring(t)
	r, _ := h.greet(o)
	r.next(wire.Policies)
	large := bulkhead(3, 10, time.Second)
	for i := range 8000 {
		large.Upstreams[fmt.Sprintf("upstream-number-%d", i)] = policies.Policy{Bulkhead: &policies.Bulkhead{MaxConcurrent: 1 + i}, RateLimit: &policies.RateLimit{Rate: 10}}
	}
	h.set.Store(large)
	if _, err := h.running.Reload(); err != nil {
		t.Fatal(err)
	}
	if m := r.next(wire.Policies); len(m.Set.Upstreams) != 8001 {
		t.Errorf("%d upstreams pushed", len(m.Set.Upstreams))
	}
	r.open(o, 1)
}

// A process that does not read, as one that is stopped, is let go after some
// seconds. It loses nothing by that: its permits stay its own, and it comes
// back with them.
func TestWhoDoesNotRead(t *testing.T) {
	large := bulkhead(3, 10, time.Second)
	for i := range 8000 {
		large.Upstreams[fmt.Sprintf("upstream-number-%d", i)] = policies.Policy{RateLimit: &policies.RateLimit{Rate: 10}}
	}
	h := newHost(t, large)
	o := bring(t)
	r, _ := h.greet(o)
	_, w := r.open(o, 2)
	h.greet(bring(t)) // reads nothing from the beginning
	larger := *large
	larger.Upstreams = maps.Clone(large.Upstreams)
	larger.Upstreams["another"] = policies.Policy{RateLimit: &policies.RateLimit{Rate: 10}}
	h.set.Store(&larger)
	if _, err := h.running.Reload(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, "let go", func() bool { return len(h.running.Status().Sessions) == 0 })
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("let go after %v, want some patience", took)
	}
	if l := h.limit(); l.InUse != 2 || l.Processes != 1 {
		t.Errorf("status %+v, want two in use by one process", l)
	}
	again, m := h.greet(o, w)
	if len(m.Cells) != 1 || m.Cells[0].Index != w.Index || m.Cells[0].Epoch != w.Epoch {
		t.Errorf("accepted %+v, want %+v", m.Cells, w)
	}
	if m := again.next(wire.Policies); len(m.Set.Upstreams) != 8002 {
		t.Errorf("%d upstreams pushed", len(m.Set.Upstreams))
	}
	if l := h.limit(); l.InUse != 2 || l.Granted != 2 {
		t.Errorf("status %+v, want the two that were in use", l)
	}
}

// A stop in the middle of a hello is a stop, and what is asked of a stopped
// agent an error.
func TestStop(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	o := bring(t)
	r, _ := h.greet(o)
	r.open(o, 1)
	half := h.upgrade()
	a := h.running
	began := time.Now()
	h.stop()
	if took := time.Since(began); took > time.Second {
		t.Errorf("stopping took %v", took)
	}
	r.ends("the agent stopped")
	if _, err := half.unix.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection without its hello stays open")
	}
	if _, err := a.Reload(); err == nil {
		t.Error("a stopped agent reloads")
	}
	a.Status()
}

// What a bad set says changes nothing.
func TestBadReload(t *testing.T) {
	h := newHost(t, bulkhead(3, 10, time.Second))
	o := bring(t)
	r, _ := h.greet(o)
	c, _ := r.open(o, 1)
	before := h.running.Status()
	h.set.Store(&policies.Set{Version: 1, Upstreams: map[string]policies.Policy{"shop": {Bulkhead: &policies.Bulkhead{MaxConcurrent: -5}}}})
	if _, err := h.running.Reload(); err == nil {
		t.Fatal("a bad set was loaded")
	}
	after := h.running.Status()
	if before.Generation != after.Generation || before.ETag != after.ETag || h.limit().Limit != 3 || c.Read().InUse != 1 {
		t.Errorf("after a bad set %+v, before %+v", after, before)
	}
	h.set.Store(bulkhead(3, 10, time.Second))
	if done, err := h.running.Reload(); err != nil || done.Changed || done.Generation != before.Generation {
		t.Errorf("the same set again: %+v, %v; want no change", done, err)
	}
}
