package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Many senders, a reader that is slower than all of them: every message
// arrives once, whole, and each sender's in its order.
func TestManySendersOneSlowReader(t *testing.T) {
	const senders, each = 8, 200
	near, far := pair(t)
	near.SetWriteBuffer(4096)
	c := NewConn(near, nil, MaxLine, 64<<20)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				m := &Message{Type: Want, Version: s, Generation: uint64(i), Reason: strings.Repeat("x", i)}
				if err := c.Send(m); err != nil {
					t.Errorf("sender %d: message %d: %v", s, i, err)
					return
				}
			}
		})
	}
	wg.Wait() // all is sent before anything is read: Send does not wait
	in := NewConn(far, nil, MaxLine, 0)
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	var next [senders]uint64
	for range senders * each {
		m, err := in.Receive()
		if err != nil {
			t.Fatalf("Receive: %v", err)
		}
		if m.Generation != next[m.Version] || len(m.Reason) != int(m.Generation) {
			t.Fatalf("sender %d: message %d of %d bytes, want message %d", m.Version, m.Generation, len(m.Reason), next[m.Version])
		}
		next[m.Version]++
	}
}

// A peer that does not read costs a bounded queue, and is then let go.
func TestQueueIsBounded(t *testing.T) {
	const queue = 64 << 10
	near, far := pair(t)
	c := NewConn(near, nil, MaxLine, queue)
	line := append(bytes.Repeat([]byte("x"), 1023), '\n')
	sent, err := 0, error(nil)
	for sent < 64<<20 {
		if err = c.SendLine(line); err != nil {
			break
		}
		sent += len(line)
	}
	if !errors.Is(err, ErrBehind) {
		t.Fatalf("after %d bytes that nobody read: %v, want ErrBehind", sent, err)
	}
	if err := c.Send(&Message{Type: Wake}); !errors.Is(err, ErrBehind) {
		t.Errorf("a further Send: %v, want ErrBehind again", err)
	}
	// What the socket holds, and a queue, of which the writer has some in hand.
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	got, err := io.Copy(io.Discard, far)
	if err != nil {
		t.Errorf("the peer reads %v, want the end of the connection", err)
	}
	if held := int64(sent) - got; held > queue {
		t.Errorf("%d bytes were accepted and never sent, want at most the queue's %d", held, queue)
	}
}

// A peer that reads nothing is let go though its queue has room, and whoever
// receives from it is told why.
func TestStalledPeer(t *testing.T) {
	near, far := pair(t)
	c := NewConn(near, nil, MaxLine, 64<<20)
	c.Within = 50 * time.Millisecond
	if err := c.SendLine([]byte(lineOf(4 << 20))); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Receive(); !errors.Is(err, ErrBehind) {
		t.Errorf("Receive: %v, want ErrBehind", err)
	}
	if err := c.Send(&Message{Type: Wake}); !errors.Is(err, ErrBehind) {
		t.Errorf("Send: %v, want ErrBehind", err)
	}
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, far); err != nil {
		t.Errorf("the peer reads %v, want the end of the connection", err)
	}
}

// A peer that reads slowly is not let go, and what is sent after it has caught
// up arrives, however late that is.
func TestSlowPeerIsKept(t *testing.T) {
	near, far := pair(t)
	near.SetWriteBuffer(4096)
	c := NewConn(near, nil, MaxLine, 64<<20)
	c.Within = 500 * time.Millisecond
	want := &Message{Type: Refuse, Reason: strings.Repeat("x", 4<<20)}
	if err := c.Send(want); err != nil {
		t.Fatal(err)
	}
	in := NewConn(far, nil, MaxAgentLine, 0)
	buf := make([]byte, 16<<10)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < 2*c.Within; <-tick.C {
		n, err := far.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		in.line = append(in.line, buf[:n]...)
	}
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	if m, err := in.Receive(); err != nil || m.Reason != want.Reason {
		t.Fatalf("Receive: %v, or another text than was sent", err)
	}
	<-time.After(c.Within) // of the last piece
	if err := c.Send(&Message{Type: Wake}); err != nil {
		t.Errorf("Send, long after the queue was empty: %v", err)
	}
}

// Long lines are not copied, and short ones do not write into them.
func TestQueueKeepsLongLines(t *testing.T) {
	near, far := pair(t)
	const conns, size = 64, 1 << 20
	line := append(make([]byte, 0, size+4096), lineOf(size)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range conns {
		one, _ := pair(t)
		if err := NewConn(one, nil, MaxLine, 2*size).SendLine(line); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > conns*size/8 {
		t.Errorf("%d connections with one line of %d bytes: %d bytes allocated", conns, size, grown)
	}
	c := NewConn(near, nil, MaxLine, 4*size)
	c.SendLine(line)
	c.Send(&Message{Type: Wake, Indexes: []int{1}})
	c.SendHint(Wake, 2)
	c.SendLine(line)
	in := NewConn(far, nil, MaxAgentLine, 0)
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	for _, want := range []string{"refuse[]", "wake[1]", "wake[2]", "refuse[]"} {
		m, err := in.Receive()
		if err != nil || fmt.Sprint(m.Type, m.Indexes) != want {
			t.Fatalf("Receive: %v, %v, want %s", m, err, want)
		}
	}
	if spare := line[:cap(line)][size:]; !bytes.Equal(spare, make([]byte, len(spare))) {
		t.Error("what stands behind the line was written to")
	}
}

func TestSendAfterTheEnd(t *testing.T) {
	near, far := pair(t)
	c := NewConn(near, nil, MaxLine, 1<<20)
	far.Close()
	first := c.Send(&Message{Type: Wake})
	if first == nil || c.Send(&Message{Type: Wake}) == nil {
		t.Errorf("Send to a closed peer: %v and then nil, want errors", first)
	}
	if _, err := c.Receive(); !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
		t.Logf("Receive: %v", err)
		if err == nil {
			t.Error("Receive from a closed peer gives a message")
		}
	}
}

// One line that is larger than the socket takes at once goes whole.
func TestOneLargeLine(t *testing.T) {
	near, far := pair(t)
	c := NewConn(near, nil, MaxLine, 8<<20)
	want := &Message{Type: Refuse, Reason: strings.Repeat("long ", 1<<20)}
	if err := c.Send(want); err != nil {
		t.Fatalf("Send: %v", err)
	}
	in := NewConn(far, nil, MaxAgentLine, 0)
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	if m, err := in.Receive(); err != nil || m.Reason != want.Reason {
		t.Fatalf("Receive: %v, or another text than was sent", err)
	}
	// The large buffer is not kept for the small messages that follow.
	if cap(in.line) > 1<<16 {
		t.Errorf("%d bytes are kept after one large line", cap(in.line))
	}
}

// lineOf is a message of exactly n bytes with its newline.
func lineOf(n int) string {
	const head, tail = `{"type":"refuse","reason":"`, "\"}\n"
	return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
}

func TestLongestLine(t *testing.T) {
	for n, fits := range map[int]bool{MaxLine - 1: true, MaxLine: true, MaxLine + 1: false, 5 * MaxLine: false} {
		near, far := pair(t)
		go func() { io.WriteString(near, lineOf(n)); near.Close() }()
		c := NewConn(far, nil, MaxLine, 0)
		far.SetReadDeadline(time.Now().Add(20 * time.Second))
		m, err := c.Receive()
		if fits && (err != nil || m.Type != Refuse) {
			t.Errorf("a line of %d bytes: %v, want it whole", n, err)
		}
		if !fits && !errors.Is(err, ErrLine) {
			t.Errorf("a line of %d bytes: %v, want ErrLine", n, err)
		}
		far.Close()
	}
}

// A line without an end is not read for ever.
func TestEndlessLine(t *testing.T) {
	near, far := pair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for chunk := bytes.Repeat([]byte("x"), 4096); ; {
			if _, err := near.Write(chunk); err != nil {
				return
			}
		}
	}()
	c := NewConn(far, nil, MaxLine, 0)
	if _, err := c.Receive(); !errors.Is(err, ErrLine) {
		t.Errorf("an endless line: %v, want ErrLine", err)
	}
	far.Close()
	<-done
}

// What is no message is skipped, and what follows it is understood.
func TestResynchronises(t *testing.T) {
	near, far := pair(t)
	io.WriteString(near, strings.Join([]string{
		"\x00\xff\xfe garbage", "", "   ", `{"type":"wake"`, `["wake"]`, `"wake"`, `{"type":7}`, `{"indexes":"no"}`,
		`exes":[1]}`, // the end of a torn line
		`{"type":"wake","indexes":[1,2],"unknown":{"a":[1]}}`,
		"\r",
		`{"type":"from a newer version"}` + "\r",
		`{"type":"wake","indexes":[3]}`,
	}, "\n")+"\n{\"type\":\"torn")
	near.Close()
	c := NewConn(far, nil, MaxLine, 0)
	var got []string
	for {
		m, err := c.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v, want EOF", err)
			}
			break
		}
		got = append(got, fmt.Sprint(m.Type, m.Indexes))
	}
	if want := "wake[1 2]; from a newer version[]; wake[3]"; strings.Join(got, "; ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, "; "), want)
	}
}

// A deadline that passes in the middle of a line, wherever that is, loses
// nothing.
func TestDeadlineResumes(t *testing.T) {
	text := `{"type":"wake","indexes":[7]}` + "\n" + lineOf(5000)
	for cut := 0; cut < len(text); cut += 1 + cut/40 {
		near, far := pair(t)
		c := NewConn(far, nil, MaxLine, 0)
		io.WriteString(near, text[:cut])
		var got []*Message
		for wrote := false; len(got) < 2; {
			if wrote {
				c.SetReadDeadline(time.Now().Add(20 * time.Second))
			} else {
				c.SetReadDeadline(time.Now())
			}
			m, err := c.Receive()
			switch {
			case err == nil:
				got = append(got, m)
			case errors.Is(err, os.ErrDeadlineExceeded) && !wrote:
				wrote = true
				io.WriteString(near, text[cut:])
			default:
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		if got[0].Type != Wake || got[0].Indexes[0] != 7 || got[1].Type != Refuse {
			t.Fatalf("cut at %d: %+v and %+v, want what was sent", cut, got[0], got[1])
		}
		near.Close()
		far.Close()
	}
}

// What was read with the first message comes before what is on the wire.
func TestRestComesFirst(t *testing.T) {
	near, far := pair(t)
	text := `{"type":"want","indexes":[1]}` + "\n" + `{"type":"want","indexes":[2]}` + "\n"
	cut := len(text) - 10
	io.WriteString(near, text[cut:])
	c := NewConn(far, []byte(text[:cut]), MaxLine, 0)
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	for want := 1; want <= 2; want++ {
		if m, err := c.Receive(); err != nil || m.Indexes[0] != want {
			t.Errorf("message %d: %+v, %v", want, m, err)
		}
	}
}

// Closing ends a Receive that waits, and the writer of the queue.
func TestCloseEndsBoth(t *testing.T) {
	near, _ := pair(t)
	c := NewConn(near, nil, MaxLine, 8<<20)
	for range 1000 {
		c.SendLine(append(bytes.Repeat([]byte("x"), 4095), '\n')) // far beyond the socket
	}
	ended := make(chan error, 1)
	go func() { _, err := c.Receive(); ended <- err }()
	c.Close()
	if err := <-ended; err == nil {
		t.Error("Receive gave a message after Close")
	}
	// goleak sees a writer that stays.
}

func TestMessageSurvivesJSON(t *testing.T) {
	want := Message{
		Type: Welcome, Version: 1, Library: "x", Cell: &Cell{Upstream: "a", Kind: Bulkhead, Index: -1, Reason: "none"},
		Cells: []Cell{{Upstream: "b", Kind: RateLimit, Index: 3, Epoch: 65535}}, Indexes: []int{1}, Generation: 9, RecoverMS: 5, Reason: "r",
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Message
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(got)
	if !bytes.Equal(text, again) {
		t.Errorf("%s becomes %s", text, again)
	}
}

// FuzzReceive holds Receive to a plain splitting at newlines, however the
// bytes are cut.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"type":"wake","indexes":[1]}`+"\n"), uint16(3))
	f.Add([]byte("garbage\n\n{\"type\":\"bye\"}\n{\"type\":"), uint16(1))
	f.Add([]byte(lineOf(300)+lineOf(60)), uint16(64))
	f.Fuzz(func(t *testing.T, text []byte, cut uint16) {
		const maxIn = 256
		if len(text) > 64<<10 {
			return
		}
		var want []string
		tooLong := false
		for in := bufio.NewReader(bytes.NewReader(text)); ; {
			line, err := in.ReadBytes('\n')
			if len(line) > maxIn {
				tooLong = true
				break
			}
			if err != nil {
				break
			}
			m := new(Message)
			if json.Unmarshal(bytes.TrimSpace(line), m) == nil {
				want = append(want, fmt.Sprintf("%+v", *m))
			}
		}
		near, far := pair(t)
		defer far.Close()
		go func() {
			defer near.Close()
			for chunk := range chunks(text, int(cut)+1) {
				if _, err := near.Write(chunk); err != nil {
					return
				}
			}
		}()
		c := NewConn(far, nil, maxIn, 0)
		var got []string
		for {
			m, err := c.Receive()
			if err != nil {
				if tooLong != errors.Is(err, ErrLine) {
					t.Fatalf("ended with %v; a line is too long: %v", err, tooLong)
				}
				break
			}
			got = append(got, fmt.Sprintf("%+v", *m))
		}
		// Pointers differ; counts and plain fields do not.
		if len(got) != len(want) {
			t.Fatalf("%d messages, want %d", len(got), len(want))
		}
	})
}

func chunks(text []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(text) > 0 {
			k := min(n, len(text))
			if !yield(text[:k]) {
				return
			}
			text = text[k:]
		}
	}
}
