package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/user"
	"time"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent"
)

// breaker is `resagent breaker`: it returns once the agent shows the change to
// all processes, which follow at their next call.
func breaker(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket, admin := socketFlag(fs), adminSocketFlag(fs)
	duration := fs.Duration("for", 30*time.Minute, "for how long; at most 168h")
	reason := fs.String("reason", "", "why, for those who look at status and events")
	asJSON := fs.Bool("json", false, "print JSON")
	if err := parse(fs, args, 2, 2); err != nil {
		return err
	}
	to := map[string]string{"open": "open", "close": "closed", "auto": "auto"}[fs.Arg(1)]
	if to == "" {
		return usageError{fmt.Errorf("cannot %q a circuit: write open, close or auto", fs.Arg(1))}
	}
	if *reason == "" {
		name := "somebody"
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		*reason = "no reason given by " + name
	}
	q := url.Values{"upstream": {fs.Arg(0)}, "to": {to}, "for": {duration.String()}, "reason": {*reason}}
	body, err := call(ctx, adminSocket(*admin, *socket), "POST", "/v1/breakers?"+q.Encode())
	if no := new(problem); errors.As(err, &no) {
		return fmt.Errorf("%s: %s", no.Title, no.Detail)
	}
	if err != nil {
		return err
	}
	var done agent.Ordered
	if err := json.Unmarshal(body, &done); err != nil {
		return fmt.Errorf("the agent's answer is not understood: %w; is it of another version?", err)
	}
	printWarnings(done.Warnings)
	if *asJSON {
		return printJSON(json.RawMessage(body))
	}
	if to == "auto" {
		fmt.Fprintf(stdout, "%s: automatic again\n", printable(fs.Arg(0)))
		return nil
	}
	fmt.Fprintf(stdout, "%s: forced %s until %s\n", printable(fs.Arg(0)), to, done.Until.Local().Format(time.RFC3339))
	return nil
}
