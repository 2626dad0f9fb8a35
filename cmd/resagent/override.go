package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent"
)

// override is `resagent override`: set, list, clear. What has a KEY=VALUE
// sets, so an upstream may be called list or clear.
func override(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket, admin := socketFlag(fs), adminSocketFlag(fs)
	lasts := fs.Duration("for", 0, "how long, such as 30m; it ends by itself")
	reason := fs.String("reason", "", "why: shown in status, explain and events")
	all := fs.Bool("all", false, "with clear: those of all upstreams")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := parse(fs, args, 0, -1); err != nil {
		return err
	}
	to := adminSocket(*admin, *socket)
	words := fs.Args()
	sets := len(words) > 1 && strings.Contains(words[1], "=")
	switch {
	case !sets && (fs.Changed("for") || fs.Changed("reason")):
		return usageError{errors.New("--for and --reason are for an override that is set; write UPSTREAM KEY=VALUE... too, or leave them out; see resagent override --help")}
	case sets && *all:
		return usageError{errors.New("--all is for override clear; leave it out: an override is for one upstream")}
	case sets:
		return setOverride(ctx, to, words, *lasts, *reason, *asJSON)
	case len(words) == 0 || len(words) == 1 && words[0] == "list":
		return listOverrides(ctx, to, *asJSON)
	case words[0] == "clear" && (len(words) == 2) != *all && len(words) <= 2:
		return clearOverrides(ctx, to, fs.Arg(1), *asJSON)
	}
	return usageError{errors.New("write override UPSTREAM KEY=VALUE... --for TIME --reason WHY, override list, override clear UPSTREAM, or override clear --all; see resagent override --help")}
}

func setOverride(ctx context.Context, socket string, words []string, lasts time.Duration, reason string, asJSON bool) error {
	if lasts < 0 {
		return usageError{fmt.Errorf("--for %v is below zero; write how long it is to last, such as 30m", lasts)}
	}
	if lasts == 0 || reason == "" {
		return usageError{errors.New("an override needs --for and --reason, such as --for 30m --reason 'upstream asked for less'")}
	}
	asked := agent.OverrideRequest{Upstream: words[0], Values: make(map[string]string), For: lasts.String(), Reason: reason}
	for _, word := range words[1:] {
		key, value, ok := strings.Cut(word, "=")
		if _, twice := asked.Values[key]; !ok || twice {
			return usageError{fmt.Errorf("%q is no KEY=VALUE, or its key is there twice; write bulkhead.max_concurrent=20", fit(word, 60))}
		}
		asked.Values[key] = value
	}
	content, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	body, err := send(ctx, socket, "POST", "/v1/overrides", content)
	if no := new(problem); errors.As(err, &no) {
		return fmt.Errorf("%s\n%s", no.Title, strings.ReplaceAll(no.Detail, "policies: ", ""))
	}
	if err != nil {
		return err
	}
	var done agent.Laid
	if err := json.Unmarshal(body, &done); err != nil {
		return fmt.Errorf("the agent's answer to override is not understood: %w; is it of another version?", err)
	}
	printConsequences(done.Consequences)
	if asJSON {
		return printJSON(json.RawMessage(body))
	}
	fmt.Fprintln(stdout, printable(overrideText(done.Override)))
	return nil
}

func listOverrides(ctx context.Context, socket string, asJSON bool) error {
	body, err := call(ctx, socket, "GET", "/v1/overrides")
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(json.RawMessage(body))
	}
	var answer struct{ Overrides []agent.Override }
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("the agent's answer to override is not understood: %w; is it of another version?", err)
	}
	for _, o := range answer.Overrides {
		fmt.Fprintln(stdout, printable(overrideText(o)))
	}
	if len(answer.Overrides) == 0 {
		fmt.Fprintln(stdout, "no overrides")
	}
	return nil
}

func clearOverrides(ctx context.Context, socket, upstream string, asJSON bool) error {
	target := "/v1/overrides"
	if upstream != "" {
		target += "?" + url.Values{"upstream": {upstream}}.Encode()
	}
	body, err := call(ctx, socket, "DELETE", target)
	if err != nil {
		return err
	}
	var answer agent.Cleared
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("the agent's answer to override is not understood: %w; is it of another version?", err)
	}
	printConsequences(answer.Consequences)
	if asJSON {
		if err := printJSON(json.RawMessage(body)); err != nil {
			return err
		}
	}
	switch {
	case len(answer.Cleared) == 0:
		return noOverride(ctx, socket, upstream)
	case asJSON:
		return nil
	}
	for _, o := range answer.Cleared {
		fmt.Fprintln(stdout, "cleared: "+printable(overrideText(o)))
	}
	return nil
}

// noOverride says that there was nothing to clear, and what may be meant.
func noOverride(ctx context.Context, socket, upstream string) error {
	var answer struct{ Overrides []agent.Override }
	if body, err := call(ctx, socket, "GET", "/v1/overrides"); err == nil {
		_ = json.Unmarshal(body, &answer) // a suggestion, where there is one
	}
	var names []string
	for _, o := range answer.Overrides {
		names = append(names, o.Upstream)
	}
	if upstream == "" {
		return errors.New("there is no override to clear")
	}
	return fmt.Errorf("%s has no override%s; see resagent override list", upstream, didYouMean(upstream, names))
}

// overrideText is one override in a line.
func overrideText(o agent.Override) string {
	return fmt.Sprintf("%s %s until %s, by %s: %s", o.Upstream, valuesText(o),
		o.Until.Local().Format("2006-01-02 15:04:05"), userName(o.UID), o.Reason)
}

// valuesText is what an override lays over the files, long values cut.
func valuesText(o agent.Override) string {
	const most = 200 // columns; a value may be a page
	var values []string
	for _, key := range slices.Sorted(maps.Keys(o.Values)) {
		values = append(values, key+"="+fit(o.Values[key], most))
	}
	return strings.Join(values, " ")
}
