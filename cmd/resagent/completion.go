package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent/wire"
)

// completions are the shells' sides: each asks `resagent __complete`, with the
// words of the line up to the one that is being typed, and falls back to the
// names of files where it says nothing.
var completions = map[string]string{
	"bash": `# bash completion for resagent: source <(resagent completion bash)
_resagent() {
	local IFS=$'\n'
	COMPREPLY=($(resagent __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _resagent resagent
`,
	"zsh": `#compdef resagent
# zsh completion for resagent: source <(resagent completion zsh), or a file
# _resagent in a folder of $fpath.
_resagent() {
	local -a found
	found=("${(@f)$(resagent __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "${found[1]}" ]]; then
		compadd -a found
	else
		_files
	fi
}
if [[ "${funcstack[1]}" == _resagent ]]; then
	_resagent "$@"
else
	compdef _resagent resagent
fi
`,
	"fish": `# fish completion for resagent: resagent completion fish | source
function __resagent_complete
	resagent __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c resagent -a '(__resagent_complete)'
`,
}

// completion is `resagent completion`: it prints a shell's side.
func completion(_ context.Context, fs *pflag.FlagSet, args []string) error {
	if err := parse(fs, args, 1, 1); err != nil {
		return err
	}
	text, ok := completions[fs.Arg(0)]
	if !ok {
		shells := slices.Sorted(maps.Keys(completions))
		return usageError{fmt.Errorf("completion knows %s, and not %q%s", strings.Join(shells, ", "), fs.Arg(0), didYouMean(fs.Arg(0), shells))}
	}
	fmt.Fprint(stdout, text)
	return nil
}

// complete prints what the last of the words may become, one on a line. It is
// silent where it does not know: the shell then offers files.
func complete(ctx context.Context, w io.Writer, words []string) {
	if len(words) == 0 {
		return
	}
	typed := words[len(words)-1]
	for _, s := range candidates(ctx, words) {
		if strings.HasPrefix(s, typed) && strings.IndexFunc(s, unsafeToOffer) < 0 {
			fmt.Fprintln(w, s)
		}
	}
}

// unsafeToOffer marks what a shell would take for more than a letter of a
// word: names come from the agent.
func unsafeToOffer(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.:/@+%=", r)
}

func candidates(ctx context.Context, words []string) []string {
	typed, before := words[len(words)-1], words[:len(words)-1]
	if len(before) == 0 {
		return append(commandNames(), "help")
	}
	if before[0] == "help" {
		return commandNames()
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == before[0] })
	if i < 0 {
		return nil
	}
	flags := flagsOf(commands[i])
	var given []string // the arguments before, without flags and their values
	socket := wire.Socket()
	for rest := before[1:]; len(rest) > 0; rest = rest[1:] {
		name, value, joined := strings.Cut(rest[0], "=")
		f := flags.Lookup(strings.TrimPrefix(name, "--"))
		switch {
		case rest[0] == "--":
			return nil // a command of the user's own
		case !strings.HasPrefix(name, "--") || f == nil:
			given = append(given, rest[0])
			continue
		case !joined && f.NoOptDefVal == "":
			if len(rest) == 1 {
				return nil // typed is the value of the flag
			}
			rest = rest[1:]
			value = rest[0]
		}
		if f.Name == "socket" {
			socket = value
		}
	}
	if strings.HasPrefix(typed, "-") {
		return flagNames(flags)
	}
	return argumentsAfter(ctx, commands[i].name, given, socket)
}

// argumentsAfter offers arguments of a command after those given.
func argumentsAfter(ctx context.Context, name string, given []string, socket string) []string {
	switch n := len(given); name {
	case "breaker":
		if n == 1 {
			return []string{"open", "close", "auto"}
		}
		if n == 0 {
			return upstreamNames(ctx, socket)
		}
	case "exec", "status":
		if n == 0 {
			return upstreamNames(ctx, socket)
		}
	case "override":
		if n == 0 {
			return append([]string{"clear", "list"}, upstreamNames(ctx, socket)...)
		}
		if n == 1 && given[0] == "clear" {
			return upstreamNames(ctx, socket)
		}
	case "cache":
		if n == 0 {
			return []string{"list", "show", "purge"}
		}
	case "completion":
		if n == 0 {
			return slices.Sorted(maps.Keys(completions))
		}
	}
	return nil
}

func commandNames() (names []string) {
	for _, c := range commands {
		names = append(names, c.name)
	}
	return names
}

// flagsOf has a command declare its flags, and nothing else.
func flagsOf(c command) *pflag.FlagSet {
	fs := newFlags(c)
	fs.Usage = func() {}
	c.run(context.Background(), fs, []string{"--help"})
	return fs
}

// upstreamNames asks the agent; none if it does not answer at once.
func upstreamNames(ctx context.Context, socket string) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	body, err := call(ctx, socket, "GET", "/v1/policies")
	if err != nil {
		return nil
	}
	var set struct {
		Upstreams map[string]json.RawMessage `json:"upstreams"`
	}
	if json.Unmarshal(body, &set) != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(set.Upstreams))
}
