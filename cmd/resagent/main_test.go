package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts run this test binary as the command resagent.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"resagent": main})
}

// TestScripts runs testdata/*.txtar, each against the real command.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
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
