package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipes makes n pipes: their read ends, and what closes everything.
func pipes(t testing.TB, n int) (reading, writing []*os.File) {
	t.Helper()
	for range n {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		reading, writing = append(reading, r), append(writing, w)
		t.Cleanup(func() { r.Close(); w.Close() })
	}
	return reading, writing
}

func TestFilesArrive(t *testing.T) {
	near, far := pair(t)
	reading, writing := pipes(t, 2)
	sent := &Message{Type: Hello, Version: 1, Cells: []Cell{{Upstream: "a", Index: 1, Epoch: 2}}}
	if err := SendFiles(near, sent, reading...); err != nil {
		t.Fatalf("SendFiles: %v", err)
	}
	io.WriteString(near, `{"type":"want"}`+"\n")
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	m, files, rest, err := ReceiveFiles(far, MaxLine, 2)
	if err != nil || m.Type != Hello || len(m.Cells) != 1 || len(files) != 2 {
		t.Fatalf("%+v with %d files, %v; want the hello with 2", m, len(files), err)
	}
	for i, f := range files {
		defer f.Close()
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("file %d is passed on at exec (flags %#x, %v)", i, flags, err)
		}
		// In the order sent, and really the same pipe.
		writing[i].Write([]byte{byte(i)})
		var b [1]byte
		if _, err := f.Read(b[:]); err != nil || b[0] != byte(i) {
			t.Errorf("file %d reads %d, %v", i, b[0], err)
		}
	}
	c := NewConn(far, rest, MaxLine, 0)
	if m, err := c.Receive(); err != nil || m.Type != Want {
		t.Errorf("after the hello: %+v, %v; want the message that followed", m, err)
	}
}

// Whatever happens to the first message, no descriptor stays open that nobody
// has in hand.
func TestNoDescriptorLeaks(t *testing.T) {
	reading, _ := pipes(t, 40)
	hello, _ := json.Marshal(&Message{Type: Hello, Version: 1})
	line := string(hello) + "\n"
	for name, one := range map[string]struct {
		parts []string // sent one by one, each with its files
		files []int
		took  int
		want  string // in the error; empty: none
	}{
		"none":                   {[]string{line}, []int{0}, 0, ""},
		"two":                    {[]string{line}, []int{2}, 2, ""},
		"three of two":           {[]string{line}, []int{3}, 2, ""},
		"sixteen of two":         {[]string{line}, []int{16}, 2, ""},
		"more than fit":          {[]string{line}, []int{40}, -1, ""},
		"in two parts":           {[]string{line[:5], line[5:]}, []int{1, 1}, 2, ""},
		"too many, in parts":     {[]string{line[:5], line[5:9], line[9:]}, []int{2, 7, 3}, 2, ""},
		"garbage":                {[]string{"garbage\n"}, []int{2}, 0, "first message"},
		"another type":           {[]string{`{"type":5}` + "\n"}, []int{2}, 0, "first message"},
		"a long number":          {[]string{`{"version":` + strings.Repeat("9", 3000) + "}\n"}, []int{2}, 0, "first message"},
		"cut off":                {[]string{line[:5]}, []int{2}, 0, "closed before the first message"},
		"nothing":                {nil, nil, 0, "closed before the first message"},
		"too long, without end":  {[]string{strings.Repeat("x", 3000), strings.Repeat("x", 3000)}, []int{2, 2}, 0, "line too long"},
		"files after a long way": {[]string{line[:1], strings.Repeat(" ", 900), line[1:]}, []int{0, 1, 1}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			before := open(t)
			for i, part := range one.parts {
				if _, _, err := near.WriteMsgUnix([]byte(part), rights(reading[:one.files[i]]), nil); err != nil {
					t.Fatalf("sending: %v", err)
				}
			}
			near.CloseWrite()
			far.SetReadDeadline(time.Now().Add(20 * time.Second))
			m, files, _, err := ReceiveFiles(far, 4096, 2)
			if one.want == "" && (err != nil || m == nil || m.Type != Hello) {
				t.Errorf("%+v, %v; want the hello", m, err)
			}
			if one.want != "" && (err == nil || len(err.Error()) > 300 || !strings.Contains(err.Error(), one.want) || !strings.HasPrefix(err.Error(), "wire: ")) {
				t.Errorf("error %v, want a short one of wire that says %q", err, one.want)
			}
			if one.took >= 0 && len(files) != one.took || len(files) > 2 {
				t.Errorf("%d files, want %d", len(files), one.took)
			}
			for _, f := range files {
				f.Close()
			}
			if after := open(t); after != before {
				t.Errorf("%d descriptors open, %d before", after, before)
			}
		})
	}
}

func TestFirstMessageHasADeadline(t *testing.T) {
	near, far := pair(t)
	reading, _ := pipes(t, 1)
	before := open(t)
	near.WriteMsgUnix([]byte(`{"type":`), rights(reading), nil)
	far.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, files, _, err := ReceiveFiles(far, MaxLine, 2); !errors.Is(err, os.ErrDeadlineExceeded) || files != nil {
		t.Errorf("%d files, %v; want the deadline and none", len(files), err)
	}
	if after := open(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func TestSendFilesToNobody(t *testing.T) {
	near, far := pair(t)
	far.Close()
	if err := SendFiles(near, &Message{Type: Hello}); err == nil || !strings.HasPrefix(err.Error(), "wire: ") {
		t.Errorf("SendFiles to a closed peer: %v, want an error of wire", err)
	}
}

// FuzzReceiveFiles sends any bytes, cut anywhere, with descriptors anywhere:
// nothing leaks, and what is returned is what the first line says.
func FuzzReceiveFiles(f *testing.F) {
	f.Add([]byte(`{"type":"hello","version":1}`+"\n"+`{"type":"want"}`+"\n"), uint16(7), uint8(3))
	f.Add([]byte("garbage\n"), uint16(1), uint8(1))
	f.Add([]byte(strings.Repeat("x", 6000)), uint16(1000), uint8(0))
	f.Fuzz(func(t *testing.T, text []byte, cut uint16, files uint8) {
		if len(text) > 16<<10 {
			return
		}
		reading, _ := pipes(t, 1)
		near, far := pair(t)
		before := open(t)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			k := int(files % 4)
			for chunk := range chunks(text, int(cut)+1) {
				some := make([]*os.File, k)
				for i := range some {
					some[i] = reading[0]
				}
				if _, _, err := near.WriteMsgUnix(chunk, rights(some), nil); err != nil {
					break
				}
				k = (k + 1) % 4
			}
			near.CloseWrite()
		}()
		far.SetReadDeadline(time.Now().Add(20 * time.Second))
		m, got, rest, err := ReceiveFiles(far, 4096, 2)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("still reading after 20 s")
		}
		if err == nil {
			line, after, _ := bytes.Cut(text, []byte("\n"))
			want := new(Message)
			if json.Unmarshal(line, want) != nil || want.Type != m.Type || !bytes.HasPrefix(after, rest) {
				t.Errorf("%q is taken for %+v, rest %q", text, m, rest)
			}
		}
		if err != nil && got != nil || len(got) > 2 {
			t.Errorf("%d files with error %v", len(got), err)
		}
		for _, f := range got {
			f.Close()
		}
		far.Close()
		<-sent
		near.Close()
		if after := open(t); after != before-2 {
			t.Errorf("%d descriptors open, %d before", after, before-2)
		}
	})
}
