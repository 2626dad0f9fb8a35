package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent"
)

// status is `resagent status`.
func status(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket := socketFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON, as /v1/status of the agent's socket says it")
	wait := fs.Duration("wait", 0, "wait this long for an agent that is about to start, such as 10s")
	noColor := fs.Bool("no-color", false, "do not colour; nor is it done where NO_COLOR is set, or the output is no terminal")
	if err := parse(fs, args, 0, 1); err != nil {
		return err
	}
	if *wait < 0 {
		return usageError{fmt.Errorf("--wait %v is below zero; write how long to wait, such as 10s, or 0s not to wait", *wait)}
	}
	only := fs.Arg(0)
	target := "/v1/status"
	if only != "" {
		target += "?processes=20"
	}
	body, err := callWaiting(ctx, *wait, *socket, target)
	if err != nil {
		return err
	}
	now, err := parseStatus(body)
	if err != nil {
		return err
	}
	if only != "" && !inUse(now, only) {
		names := upstreamNames(ctx, *socket)
		if !slices.Contains(names, only) {
			return fmt.Errorf("no upstream of the policies is called %q%s; resagent status shows those in use", only, didYouMean(only, names))
		}
	}
	if *asJSON {
		if only != "" {
			if body, err = onlyOf(body, only); err != nil {
				return err
			}
		}
		return printJSON(json.RawMessage(body)) // also what a newer agent says
	}
	if !hasRecent(now) {
		// Nobody looked for a minute: what happens now takes two looks.
		if now, err = askAgain(ctx, *socket, target); err != nil {
			return err
		}
	}
	width, height := window(os.Stdout)
	screen := statusScreen(*socket, now, only, time.Now(), width, height)
	var out bytes.Buffer
	for _, l := range screen {
		out.WriteString(l.fit(width).text(coloured(os.Stdout, *noColor)) + "\n")
	}
	_, err = stdout.Write(out.Bytes())
	return err
}

func parseStatus(body []byte) (s agent.Status, err error) {
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("the agent's answer to status is not understood: %w; is it of another version?", err)
	}
	return s, nil
}

func inUse(s agent.Status, name string) bool {
	return slices.ContainsFunc(s.Upstreams, func(u agent.UpstreamStatus) bool { return u.Name == name })
}

// lookAgain is how long two looks are apart of which the second tells what
// happens now.
const lookAgain = time.Second

// hasRecent says whether the agent told of the last seconds, or nobody calls.
func hasRecent(s agent.Status) bool {
	const old = 15 // seconds: a failure of now would be lost in them
	return !slices.ContainsFunc(s.Upstreams, func(u agent.UpstreamStatus) bool {
		return u.Counting > 0 && (u.Recent == nil || u.Recent.Seconds > old)
	})
}

func askAgain(ctx context.Context, socket, target string) (agent.Status, error) {
	select {
	case <-ctx.Done():
		return agent.Status{}, ctx.Err()
	case <-time.After(lookAgain):
	}
	body, err := call(ctx, socket, "GET", target)
	if err != nil {
		return agent.Status{}, err
	}
	return parseStatus(body)
}

// onlyOf leaves of an answer to status what is said of one upstream and of the
// agent.
func onlyOf(body []byte, name string) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("the agent's answer to status is not understood: %w; is it of another version?", err)
	}
	for _, key := range []string{"upstreams", "limits", "circuits", "overrides"} {
		var list []json.RawMessage
		if json.Unmarshal(all[key], &list) != nil {
			continue
		}
		kept := slices.DeleteFunc(list, func(one json.RawMessage) bool {
			var of struct{ Name, Upstream string }
			return json.Unmarshal(one, &of) != nil || of.Name != name && of.Upstream != name
		})
		all[key], _ = json.Marshal(append([]json.RawMessage{}, kept...))
	}
	var forced map[string]json.RawMessage
	if json.Unmarshal(all["forced"], &forced) == nil {
		delete(all, "forced")
		if one, ok := forced[name]; ok {
			all["forced"], _ = json.Marshal(map[string]json.RawMessage{name: one})
		}
	}
	return json.Marshal(all)
}

// callWaiting is a GET, tried for the time wait until an agent answers.
func callWaiting(ctx context.Context, wait time.Duration, socket, target string) ([]byte, error) {
	end := time.Now().Add(wait)
	for {
		body, err := call(ctx, socket, "GET", target)
		if no := new(problem); err == nil || errors.As(err, &no) || !time.Now().Before(end) {
			return body, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// count is "1 upstream", "2 upstreams".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
