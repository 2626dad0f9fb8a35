package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// terminal is the one that top draws on. It reads keys as they are typed and
// draws on the alternate screen, so that what stood on it comes back. Signals
// go on to be made of ^C and ^Z, and lines to end as they do: no more is
// changed than must be restored.
type terminal struct {
	in   *os.File
	out  *os.File
	was  *unix.Termios // nil: nothing is changed
	last []string      // what is drawn; nil: draw all
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // alternate screen, no cursor, no wrapping
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// open makes the terminal top's own. Opened again, it stays so.
func (t *terminal) open() error {
	now, err := unix.IoctlGetTermios(int(t.in.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("top: the terminal cannot be read: %w", err)
	}
	if t.was == nil {
		saved := *now
		t.was = &saved
	}
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, now); err != nil {
		return fmt.Errorf("top: the terminal cannot be set: %w", err)
	}
	t.last = nil
	_, err = io.WriteString(t.out, enterScreen)
	return err
}

// close gives it back as it was. Closed again, nothing happens.
func (t *terminal) close() {
	if t.was == nil {
		return
	}
	io.WriteString(t.out, leaveScreen)
	unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, t.was)
	t.was = nil
}

// draw writes the rows that are not there already, in one write.
func (t *terminal) draw(rows []string) error {
	var b strings.Builder
	if t.last == nil || len(t.last) > len(rows) {
		b.WriteString("\x1b[2J")
		t.last = nil
	}
	for i, row := range rows {
		if i >= len(t.last) || t.last[i] != row {
			fmt.Fprintf(&b, "\x1b[%d;1H%s\x1b[K", i+1, row)
		}
	}
	t.last = rows
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(t.out, b.String())
	return err
}

// suspend stops the process as ^Z does, with the terminal as it was, and
// returns when it goes on.
func (t *terminal) suspend() error {
	t.close()
	if err := raise(unix.SIGSTOP); err != nil {
		return fmt.Errorf("top: stopping as ^Z asks: %w", err)
	}
	return t.open()
}

// raise sends a signal to this thread. Sent to the process, another thread
// would take it, and this one go on for a moment: to take the terminal again.
func raise(s unix.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(os.Getpid(), unix.Gettid(), s)
}

// dieOf ends the process by the signal, as if it had not been caught.
func dieOf(s os.Signal) {
	signal.Reset(s)
	if n, ok := s.(unix.Signal); ok {
		raise(n)
	}
}

// keysOf reads what was typed: letters, and names of the keys that are more
// than one byte. What is not known is left out; rest may be the beginning of a
// key whose end has not come.
func keysOf(typed string) (keys []string, rest string) {
	for typed != "" {
		if key, n := escapeOf(typed); n > 0 {
			if key != "" {
				keys = append(keys, key)
			}
			typed = typed[n:]
			continue
		}
		if begins := strings.HasPrefix(typed, "\x1b[") || strings.HasPrefix(typed, "\x1bO"); begins && len(typed) < longestKey {
			return keys, typed
		}
		r, n := utf8.DecodeRuneInString(typed)
		typed = typed[n:]
		switch r {
		case '\x1b':
			keys = append(keys, "esc")
		case '\r', '\n':
			keys = append(keys, "enter")
		case '\x7f', '\b':
			keys = append(keys, "backspace")
		case '\x0c':
			keys = append(keys, "redraw")
		default:
			if unicode.IsPrint(r) && r != utf8.RuneError {
				keys = append(keys, string(r))
			}
		}
	}
	return keys, ""
}

// longestKey is how long the beginning of a key may be.
const longestKey = 16

var escapes = map[string]string{
	"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end", "5~": "pageup", "6~": "pagedown",
}

// escapeOf is a key that is sent as an escape sequence (ECMA-48, section 5.4),
// and its length; 0: it is none, or is not whole.
func escapeOf(typed string) (key string, n int) {
	if len(typed) < 3 || typed[0] != '\x1b' || typed[1] != '[' && typed[1] != 'O' {
		return "", 0
	}
	for i := 2; i < len(typed); i++ {
		switch c := typed[i]; {
		case c >= 0x40 && c <= 0x7e:
			return escapes[typed[2:i+1]], i + 1
		case c < 0x20 || c > 0x7e: // no sequence after all
			return "", i
		}
	}
	return "", 0
}
