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
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a command waits for the agent's answer.
const patience = 10 * time.Second

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// closedAdvice is for a connection that ended without an answer.
const closedAdvice = "it closed the connection: try again, it may be stopping or have too many; systemctl status resagent.service"

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
		return nil, unanswered(socket, method, err)
	}
	return body, nil
}

// ask is send, without a limit in time, for an answer that the caller reads
// and closes.
func ask(ctx context.Context, socket, method, target string, content []byte) (*http.Response, error) {
	var connected atomic.Bool
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			connected.Store(err == nil)
			return conn, err
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://resagent"+target, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil && connected.Load() {
		return nil, unanswered(socket, method, err)
	}
	if err != nil {
		return nil, unreachable(socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, unanswered(socket, method, err)
	}
	said := new(problem)
	if err := json.Unmarshal(body, said); err != nil || said.Title == "" {
		said = &problem{Title: "the agent at " + socket + " answered " + resp.Status, Detail: strings.TrimSpace(string(body))}
	}
	return nil, said
}

// unanswered is unreachable for a request that the agent may have, or may find
// when it runs again: what it changes may be done all the same.
func unanswered(socket, method string, err error) error {
	err = unreachable(socket, err)
	if method == http.MethodGet {
		return err
	}
	return fmt.Errorf("%w; what was asked may be done all the same: see resagent status, resagent override list and resagent events", err)
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
	case errors.Is(err, io.EOF):
		cause, advice = io.EOF, closedAdvice
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		advice = closedAdvice
	case errors.Is(err, context.DeadlineExceeded):
		cause = fmt.Errorf("no answer within %v", patience)
		advice = "is it stopped? systemctl status resagent.service"
	case errors.Is(err, syscall.EAGAIN):
		advice = "more want to connect than the agent can take at once: try again"
	case errors.Is(err, syscall.ECONNREFUSED) && !isSocket(socket):
		advice = "that is no socket; name the agent's with --socket or RESAGENT_SOCKET"
	case strings.Contains(err.Error(), "malformed HTTP"):
		advice = "does the agent listen there, or another program? name the agent's socket with --socket or RESAGENT_SOCKET"
	}
	return fmt.Errorf("cannot reach the agent at %s: %w: %s", socket, cause, advice)
}

// isSocket says whether there is a socket at the path.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}
