package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/resagent/resagent/agent/wire"
)

// TestMain lets the scripts run this test binary as the command resagent.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"resagent": main, "denied": denied, "upstream": answering, "crowd": crowding, "cachefill": cacheFill})
}

// answering is a command that answers every request, and writes its URL into a
// file.
func answering() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = os.WriteFile(os.Args[1]+".new", []byte("http://"+l.Addr().String()+"/"), 0o600)
	}
	if err == nil {
		err = os.Rename(os.Args[1]+".new", os.Args[1])
	}
	if err == nil {
		err = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "well\n") }))
	}
	panic(err)
}

// crowding is a command that has all the sessions that a user may have, and
// then writes a file.
func crowding() {
	var all []net.Conn
	for range 256 {
		c, err := net.Dial("unix", os.Getenv("RESAGENT_SOCKET"))
		if err == nil {
			_, err = io.WriteString(c, "GET /v1/session HTTP/1.1\r\nHost: resagent\r\nConnection: Upgrade\r\nUpgrade: "+wire.Upgrade+"\r\n\r\n")
		}
		if err == nil {
			_, err = http.ReadResponse(bufio.NewReader(c), nil)
		}
		if err == nil {
			_, err = io.WriteString(c, `{"type":"hello","version":1}`+"\n")
		}
		if err != nil {
			panic(err)
		}
		all = append(all, c)
	}
	if err := os.WriteFile(os.Args[1], []byte("there\n"), 0o600); err != nil {
		panic(err)
	}
	io.Copy(io.Discard, all[0]) // until the agent ends
	runtime.KeepAlive(all)
}

// denied is the command resagent run by one who may not use the sockets.
func denied() {
	if os.Getuid() != 0 {
		for _, name := range []string{"agent.sock", "admin.sock"} {
			os.Chmod(filepath.Join(filepath.Dir(os.Getenv("RESAGENT_SOCKET")), name), 0o060) // not even to its owner
		}
		main()
	}
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)} {
		if err != nil {
			panic(err)
		}
	}
	main()
}

// TestScripts runs testdata/*.txtar, each against the real command.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("the condition %q is not known", cond)
			}
			return os.Getuid() == 0, nil
		},
		Setup: func(e *testscript.Env) error {
			// The path of a socket must be short, and a script's folder is not.
			dir, err := os.MkdirTemp("", "ra")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("S", dir)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector lingers for a second
			e.Setenv("RESAGENT_SOCKET", dir+"/agent.sock")
			return nil
		},
	})
}

func TestDidYouMean(t *testing.T) {
	names := []string{"serve", "check", "status", "explain", "reload", "version", "help"}
	for typed, want := range map[string]string{
		"statsu":  `, did you mean "status"?`,
		"chek":    `, did you mean "check"?`,
		"relaod":  `, did you mean "reload"?`,
		"hlp":     `, did you mean "help"?`,
		"xyz":     "",
		"":        "",
		"banana":  "",
		"explain": `, did you mean "explain"?`,
	} {
		if got := didYouMean(typed, names); got != want {
			t.Errorf("didYouMean(%q) = %q, want %q", typed, got, want)
		}
	}
}

func TestPrintableEscapesTerminalControl(t *testing.T) {
	for in, want := range map[string]string{
		"plain\nlines, zwölf": "plain\nlines, zwölf",
		"\x1b[2Jgone":         `\x1b[2Jgone`,
		"a\rb\x00c\u202ed":    `a\x0db\x00c\x202ed`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}
