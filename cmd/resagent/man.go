package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// manual writes resagent(1), made of what the commands themselves say, in the
// man macros that groff and mandoc both read.
func manual(w io.Writer) {
	fmt.Fprintf(w, `.TH RESAGENT 1 2026-11-24 "resagent %s" "User Commands"
.SH NAME
resagent \- resilience policies and limits shared by the processes of a host
.SH SYNOPSIS
.B resagent
.I COMMAND
.RI [ OPTIONS ]
.SH DESCRIPTION
The agent hands out policies for HTTP calls (retries, timeouts, circuit breakers, limits, fallbacks) over a Unix socket, and lets all processes that use its Go transport share the limits. The same program asks the agent, changes what it does, and checks policy files.
.SH COMMANDS
`, roff(versionText()))
	for _, c := range commands {
		fmt.Fprintf(w, ".SS %s\n%s.\n", roff(strings.TrimSpace(c.name+" "+c.args)), roff(c.summary))
		flagsOf(c).VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			value, usage := pflag.UnquoteUsage(f)
			name := "--" + f.Name
			if f.Shorthand != "" {
				name = "-" + f.Shorthand + ", " + name
			}
			fmt.Fprintf(w, ".TP\n.B %s\n%s", roff(strings.TrimSpace(name+" "+value)), roff(usage))
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0s" && f.DefValue != "0" && f.DefValue != "[]" && !strings.Contains(usage, "(default") {
				fmt.Fprintf(w, " (default %s)", roff(f.DefValue))
			}
			fmt.Fprintln(w)
		})
	}
	fmt.Fprint(w, `.SH DURATIONS
A duration is written 300ms, 10s, 5m or 1h.
.SH EXIT STATUS
0: done. 1: it could not be done, and standard error says why. 2: the command line is wrong.
.B resagent exec
ends as its command does, and before that with 75 if no permit was free in time, 126 or 127 if the command cannot be run.
.SH ENVIRONMENT
.TP
.B RESAGENT_SOCKET
The agent's socket, where it is not /run/resagent/agent.sock.
.TP
.B NO_COLOR
Not empty: nothing is coloured.
.SH FILES
.TP
.I /etc/resagent/policies.yaml, /etc/resagent/policies.d/*.yaml
The policies, see
.BR resagent\-policies (5).
.TP
.I /run/resagent/agent.sock, /run/resagent/admin.sock
The agent's sockets: for processes, and for changes.
.TP
.I /run/resagent\-ledger/ledger
What the agent has granted, for the one after it.
.SH SEE ALSO
.BR resagent\-policies (5),
.BR systemctl (1),
.BR journalctl (1)
`)
}

// roff writes text so that no letter of it is a command.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
