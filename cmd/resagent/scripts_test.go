package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// aspects are what the scripts show of each subcommand, and how a command line
// with the line after it shows it.
var aspects = map[string]func(line scriptLine) bool{
	"good": func(l scriptLine) bool { return !l.fails && !l.denied && !strings.Contains(l.args, "--help") },
	"bad":  func(l scriptLine) bool { return l.fails && !l.denied && strings.HasPrefix(l.next, "stderr ") },
	"--help": func(l scriptLine) bool {
		return !l.fails && strings.Contains(l.args, "--help") && strings.HasPrefix(l.next, "stdout ")
	},
	"--json": func(l scriptLine) bool {
		return strings.Contains(l.args, "--json") && strings.Contains(l.next, "stdout")
	},
	"full disk": func(l scriptLine) bool {
		return l.fails && strings.Contains(l.args, ">/dev/full") && strings.Contains(l.next, "output is not complete")
	},
	"agent not running": func(l scriptLine) bool { return l.fails && strings.Contains(l.next, "cannot reach the agent at") },
	"no permission": func(l scriptLine) bool {
		return l.fails && l.denied && strings.Contains(l.next, "permission denied: it is for the group")
	},
	"unknown upstream": func(l scriptLine) bool {
		return l.fails && regexp.MustCompile(`no upstream .*is called|has no override`).MatchString(l.next) && strings.Contains(l.next, "did you mean")
	},
}

// leftOut are aspects that a subcommand does not have, with the reason.
var leftOut = map[string]map[string]string{
	"serve":      {"--json": "it prints a log: --log-format json", "agent not running": "it is the agent", "no permission": "it asks nobody", "unknown upstream": "it names none"},
	"check":      {"unknown upstream": "it names none"},
	"status":     {},
	"top":        {"unknown upstream": "it names none"},
	"explain":    {},
	"breaker":    {},
	"events":     {"unknown upstream": "it names none"},
	"exec":       {"--json": "what it prints is its command's"},
	"fetch":      {"agent not running": "it goes on alone, and says so", "no permission": "likewise"},
	"override":   {},
	"reload":     {"unknown upstream": "it names none"},
	"cache":      {"agent not running": "it asks no agent", "no permission": "likewise", "unknown upstream": "it names none"},
	"demo":       {"agent not running": "it starts its own", "no permission": "likewise", "unknown upstream": "it names none"},
	"completion": {"--json": "it prints a script", "agent not running": "it asks no agent", "no permission": "likewise", "unknown upstream": "it names none"},
	"version":    {"agent not running": "it asks no agent", "no permission": "likewise", "unknown upstream": "it names none"},
}

// scriptLine is one line of a script that runs a subcommand.
type scriptLine struct {
	fails, denied bool
	args, next    string
}

// Each subcommand has scripts that show it right and wrong, its help, what it
// prints for machines, and each way in which it may not get at the agent.
func TestEachSubcommandHasScripts(t *testing.T) {
	shown := map[string]map[string]bool{}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d scripts, %v", len(files), err)
	}
	run := regexp.MustCompile(`^(?:\[\S+\] )?(! )?exec (?:sh -c '.*)?(resagent|denied) ([a-z]+)(.*)$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		script, _, _ := strings.Cut(string(text), "\n-- ")
		lines := strings.Split(script, "\n")
		for i, line := range lines {
			m := run.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			one := scriptLine{fails: m[1] != "", denied: m[2] == "denied", args: m[4]}
			if i+1 < len(lines) {
				one.next = strings.TrimPrefix(lines[i+1], "[root] ")
			}
			if shown[m[3]] == nil {
				shown[m[3]] = map[string]bool{}
			}
			for aspect, shows := range aspects {
				shown[m[3]][aspect] = shown[m[3]][aspect] || shows(one)
			}
		}
	}
	for _, c := range commands {
		reasons, known := leftOut[c.name]
		if !known {
			t.Errorf("%s is not in the table of this test", c.name)
		}
		for aspect := range aspects {
			switch reason, left := reasons[aspect]; {
			case left && shown[c.name][aspect]:
				t.Errorf("%s: %s is shown, and said to be left out: %s", c.name, aspect, reason)
			case !left && !shown[c.name][aspect]:
				t.Errorf("%s: no script shows it: %s", c.name, aspect)
			}
		}
	}
}
