package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent"
)

// reload is `resagent reload`: it returns once the agent has taken the new
// policies, or says why it has not.
func reload(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket, admin := socketFlag(fs), adminSocketFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	body, err := call(ctx, adminSocket(*admin, *socket), "POST", "/v1/reload")
	if no := new(problem); errors.As(err, &no) {
		return fmt.Errorf("reload refused: %s\n%s", no.Title, no.Detail)
	}
	if err != nil {
		return err
	}
	var done agent.Reloaded
	if err := json.Unmarshal(body, &done); err != nil {
		return fmt.Errorf("the agent's answer to reload is not understood: %w; is it of another version?", err)
	}
	printConsequences(done.Consequences)
	if *asJSON {
		return printJSON(json.RawMessage(body))
	}
	word := "reloaded"
	if !done.Changed {
		word = "nothing has changed"
	}
	for _, c := range done.Changes {
		fmt.Fprintln(stdout, printable(c.String()))
	}
	if done.More {
		fmt.Fprintln(stdout, "and more")
	}
	fmt.Fprintf(stdout, "%s: generation %d, %s\n", word, done.Generation, count(done.Upstreams, "upstream", "upstreams"))
	return nil
}
