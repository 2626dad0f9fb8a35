package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/transport"
)

// fetched is what fetch --json prints.
type fetched struct {
	URL       string        `json:"url"`
	Upstream  string        `json:"upstream"`
	Mode      string        `json:"mode"` // of the session with the agent
	Status    int           `json:"status,omitempty"`
	Error     string        `json:"error,omitempty"`
	Attempts  int           `json:"attempts"`
	WaitedMS  float64       `json:"waited_ms"`
	TookMS    float64       `json:"took_ms"`
	Served    string        `json:"served,omitempty"`
	Breaker   string        `json:"breaker,omitempty"`
	Stopped   string        `json:"stopped,omitempty"`
	BodyBytes int64         `json:"body_bytes"`
	Layers    []fetchedStep `json:"layers"`
}

type fetchedStep struct {
	AtMS float64 `json:"at_ms"`
	What string  `json:"what"`
}

// fetch is `resagent fetch`: one request as a program on this host would send
// it. The body goes to standard output, what each layer did to standard error.
func fetch(ctx context.Context, fs *pflag.FlagSet, args []string) error {
	socket := socketFlag(fs)
	method := fs.StringP("request", "X", "GET", "the request's `METHOD`")
	headers := fs.StringArrayP("header", "H", nil, "a field of the request, as `'FIELD: VALUE'`; may be repeated")
	data := fs.StringP("data", "d", "", "the `TEXT` of the request's body")
	upstream := fs.String("upstream", "", "send it as to the upstream of this `NAME`, whatever the URL")
	asJSON := fs.Bool("json", false, "print what happened as JSON, and not the body")
	if err := parse(fs, args, 1, 1); err != nil {
		return err
	}
	u, err := url.Parse(fs.Arg(0))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usageError{fmt.Errorf("cannot fetch %q: write a whole URL, such as http://payments.internal/v1", fs.Arg(0))}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var info transport.Info
	ctx = transport.WithInfo(ctx, &info)
	session := &client.Session{Socket: *socket}
	defer session.Close()
	session.Attach(ctx)
	if *upstream != "" {
		if session.Policies() != nil {
			if _, err := upstreamOf(ctx, session, *socket, *upstream); err != nil {
				return err
			}
		}
		ctx = transport.WithUpstream(ctx, *upstream)
	}
	var body io.Reader
	if *data != "" {
		body = strings.NewReader(*data)
	}
	req, err := http.NewRequestWithContext(ctx, *method, fs.Arg(0), body)
	if err != nil {
		return usageError{fmt.Errorf("cannot fetch: %w", err)}
	}
	for _, h := range *headers {
		field, value, ok := strings.Cut(h, ":")
		if !ok {
			return usageError{fmt.Errorf("--header %q has no colon; write it as 'Accept: text/plain'", h)}
		}
		req.Header.Add(strings.TrimSpace(field), strings.TrimSpace(value))
	}
	return doFetch(req, session, &info, *asJSON)
}

// doFetch sends the request and tells about it.
func doFetch(req *http.Request, session *client.Session, info *transport.Info, asJSON bool) error {
	began := time.Now()
	var mu sync.Mutex
	var steps []fetchedStep
	tell := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		at := milliseconds(time.Since(began))
		steps = append(steps, fetchedStep{at, what})
		if !asJSON {
			fmt.Fprintf(os.Stderr, "%9.1f ms  %s\n", at, printable(what))
		}
	}
	if mode := session.Mode(); mode != client.Attached {
		what := "agent: " + string(mode) + ", limits and policies are this process's own"
		if err := session.Err(); err != nil {
			what += ": " + err.Error()
		}
		tell(what)
	} else {
		tell("agent: attached")
	}
	t := &transport.Transport{Agent: session, Observe: func(e transport.Event) { tell(stepText(e)) }}
	resp, err := t.RoundTrip(req)
	out := fetched{URL: req.URL.Redacted(), Mode: string(session.Mode())}
	if err == nil {
		out.Status = resp.StatusCode
		tell("answer: " + resp.Proto + " " + resp.Status + ", from " + string(info.Served))
		if !asJSON {
			for _, field := range sortedFields(resp.Header) {
				fmt.Fprintln(os.Stderr, "              "+printable(field))
			}
		}
		var to io.Writer = os.Stdout
		if asJSON {
			to = io.Discard
		}
		out.BodyBytes, err = io.Copy(to, resp.Body)
		resp.Body.Close()
		tell(fmt.Sprintf("body: %d bytes", out.BodyBytes))
	}
	tell(fmt.Sprintf("upstream %s, %s, %v waited, circuit %s", info.Upstream, count(info.Attempts, "attempt", "attempts"),
		info.Waited.Round(time.Microsecond), or(info.Breaker, "none")))
	out.Upstream, out.Attempts, out.WaitedMS, out.TookMS = info.Upstream, info.Attempts, milliseconds(info.Waited), milliseconds(time.Since(began))
	out.Served, out.Breaker, out.Stopped = string(info.Served), info.Breaker, info.Stopped
	if err != nil {
		out.Error = err.Error()
		err = fmt.Errorf("cannot fetch %s: %w", req.URL.Redacted(), err)
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
	}
	if asJSON {
		mu.Lock()
		out.Layers = steps
		mu.Unlock()
		if shown := printJSON(out); shown != nil {
			return shown
		}
	}
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// stepText is one event of the transport in words.
func stepText(e transport.Event) string {
	s := e.Kind.String()
	if e.Attempt > 0 {
		s += fmt.Sprintf(" (attempt %d)", e.Attempt)
	}
	if e.Status != 0 {
		s += fmt.Sprintf(": status %d", e.Status)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Took > 0 {
		s += fmt.Sprintf(", took %v", e.Took.Round(10*time.Microsecond))
	}
	if e.Wait > 0 {
		s += fmt.Sprintf(", wait %v", e.Wait.Round(10*time.Microsecond))
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func sortedFields(h http.Header) (fields []string) {
	for name, values := range h {
		for _, v := range values {
			fields = append(fields, name+": "+v)
		}
	}
	slices.Sort(fields)
	return fields
}
