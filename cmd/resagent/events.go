package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent"
)

// showEvents is `resagent events`.
func showEvents(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket := socketFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON, one event a line")
	following := fs.BoolP("follow", "f", false, "go on with those to come, until interrupted")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	show := func(line json.RawMessage) error {
		if *asJSON {
			_, err := fmt.Fprintf(stdout, "%s\n", line)
			return err
		}
		var one agent.Event
		if err := json.Unmarshal(line, &one); err != nil {
			return fmt.Errorf("the agent's events are not understood: %w; is it of another version?", err)
		}
		printEvent(stdout, one)
		return stdout.failed()
	}
	if *following {
		return followEvents(ctx, *socket, show)
	}
	body, err := call(ctx, *socket, "GET", "/v1/events")
	if err != nil {
		return err
	}
	var answer struct{ Events []json.RawMessage }
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("the agent's events are not understood: %w; is it of another version?", err)
	}
	for _, line := range answer.Events {
		compact := new(strings.Builder)
		e := json.NewEncoder(compact)
		e.SetEscapeHTML(false)
		e.Encode(line)
		if err := show(json.RawMessage(strings.TrimSpace(compact.String()))); err != nil {
			return err
		}
	}
	return nil
}

// followEvents shows each event as it comes.
func followEvents(ctx context.Context, socket string, show func(json.RawMessage) error) error {
	resp, err := ask(ctx, socket, "GET", "/v1/events?follow=1", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the agent at %s has ended the events: it stops, or we were too slow; see systemctl status resagent.service", socket)
		}
		if err != nil {
			return unreachable(socket, err)
		}
		if err := show(line[:len(line)-1]); err != nil {
			return err
		}
	}
}

// printEvent shows one event in a line, and the changes of a reload in lines
// below it.
func printEvent(w io.Writer, e agent.Event) {
	line := e.Time.Local().Format("2006-01-02 15:04:05.000") + "  " + string(e.Kind)
	if e.Upstream != "" {
		line += " " + e.Upstream
	}
	if e.UID != nil && *e.UID >= 0 {
		line += " by " + userName(*e.UID)
	}
	if e.PID != 0 {
		line += ", pid " + strconv.Itoa(e.PID)
	}
	if e.Text != "" {
		line += ": " + strings.ReplaceAll(e.Text, "\n", "\n    ")
	}
	if e.Missed > 0 {
		fmt.Fprintf(w, "(%s gone)\n", count(int(e.Missed), "event before this one is", "events before this one are"))
	}
	fmt.Fprintln(w, printable(line))
	for _, c := range e.Changes {
		fmt.Fprintln(w, "    "+printable(c.String()))
	}
	if e.More {
		fmt.Fprintln(w, "    and more")
	}
}

// userNames keeps what was looked up: top asks for the same ones again and again.
var userNames sync.Map

// userName is the name of a user, or the number where there is none.
func userName(uid int) string {
	if name, ok := userNames.Load(uid); ok {
		return name.(string)
	}
	name := "uid " + strconv.Itoa(uid)
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	userNames.Store(uid, name)
	return name
}
