package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// patience is how long a command waits for the agent's answer.
const patience = 10 * time.Second

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// problem is an answer of the agent that says no (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

func (p *problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

// call asks the agent at socket and returns the body of its answer. target is
// a path with its query. Errors: *problem for the agent's own no.
func call(ctx context.Context, socket, method, target string) ([]byte, error) {
	return send(ctx, socket, method, target, nil)
}

// send is call with a body.
func send(ctx context.Context, socket, method, target string, content []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := ask(ctx, socket, method, target, content)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, unreachable(socket, err)
	}
	return body, nil
}

// ask is send, without a limit in time, for an answer that the caller reads
// and closes.
func ask(ctx context.Context, socket, method, target string, content []byte) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://resagent"+target, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, unreachable(socket, err)
	}
	said := new(problem)
	if err := json.Unmarshal(body, said); err != nil || said.Title == "" {
		said = &problem{Title: "the agent at " + socket + " answered " + resp.Status, Detail: strings.TrimSpace(string(body))}
	}
	return nil, said
}

// unreachable says why there is no answer, and what to look at.
func unreachable(socket string, err error) error {
	var errno syscall.Errno
	cause := err
	if errors.As(err, &errno) {
		cause = errno
	}
	advice := "is resagent.socket active? systemctl status resagent.socket"
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = deniedAdvice(socket)
	case errors.Is(err, context.DeadlineExceeded):
		cause = fmt.Errorf("no answer within %v", patience)
		advice = "is it stopped? systemctl status resagent.service"
	}
	return fmt.Errorf("cannot reach the agent at %s: %w: %s", socket, cause, advice)
}
