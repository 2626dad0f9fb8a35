package openapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/resagent/resagent/agent"
	"github.com/resagent/resagent/agent/client"
	"github.com/resagent/resagent/policies"
	"github.com/resagent/resagent/policies/policyfile"
)

const policy = `version: 1
defaults:
  timeout: {attempt: 2s}
upstreams:
  shop:
    match: [{host: shop.internal, path: /v1, methods: [GET, POST]}]
    bulkhead: {max_concurrent: 5}
    rate_limit: {rate: 100/s}
    fallback: {static: {status: 200, headers: {X-Answer: fixed}}}
  other: {match: [{host: "*.internal"}]}
`

// ask is one request, and what it is to bring.
type ask struct {
	socket  string
	request string // method and target
	body    string
	want    int
}

var asks = []ask{
	{"agent.sock", "GET /healthz", "", 200},
	{"agent.sock", "GET /metrics", "", 200},
	{"agent.sock", "GET /v1/status", "", 200},
	{"agent.sock", "GET /v1/status?processes=3", "", 200},
	{"agent.sock", "GET /v1/status?processes=many", "", 400},
	{"agent.sock", "GET /v1/policies", "", 200},
	{"agent.sock", "GET /v1/explain?method=POST&url=http://shop.internal/v1/x", "", 200},
	{"agent.sock", "GET /v1/explain?url=http://nobody/", "", 200},
	{"agent.sock", "GET /v1/explain?upstream=shop", "", 200},
	{"agent.sock", "GET /v1/explain?upstream=shpo", "", 404},
	{"agent.sock", "GET /v1/explain?url=nonsense", "", 400},
	{"agent.sock", "GET /v1/history", "", 200},
	{"agent.sock", "GET /v1/session", "", 426},
	{"admin.sock", "GET /v1/overrides", "", 200},
	{"admin.sock", "POST /v1/overrides", `{"upstream": "shop", "values": {"bulkhead.max_concurrent": "3"}, "for": "1h", "reason": "r"}`, 200},
	{"admin.sock", "POST /v1/overrides", `{"upstream": "shop", "values": {"bulkhead.max_concurrent": "-3", "timeout.attempt": "soon"}, "for": "1h", "reason": "r"}`, 422},
	{"admin.sock", "POST /v1/overrides", `{"upstream": "shpo", "values": {"bulkhead.max_concurrent": "3"}, "for": "1h", "reason": "r"}`, 422},
	{"admin.sock", "POST /v1/overrides", `{"upstream": "shop", "values": {"bulkhead.max_concurrent": "3"}, "for": "soon", "reason": "r"}`, 422},
	{"admin.sock", "GET /v1/overrides", "", 200},
	{"admin.sock", "POST /v1/breakers?upstream=shop&to=open&for=1h&reason=r", "", 200},
	{"admin.sock", "POST /v1/breakers?upstream=shpo&to=open&for=1h", "", 404},
	{"admin.sock", "POST /v1/breakers?upstream=other&to=auto", "", 422},
	{"admin.sock", "POST /v1/breakers?upstream=shop&to=open&for=soon", "", 400},
	{"admin.sock", "GET /v1/status", "", 200}, // with what persons did
	{"admin.sock", "GET /v1/explain?upstream=shop", "", 200},
	{"admin.sock", "POST /v1/breakers?upstream=shop&to=auto", "", 200},
	{"admin.sock", "DELETE /v1/overrides?upstream=shop", "", 200},
	{"admin.sock", "DELETE /v1/overrides", "", 200},
	{"admin.sock", "POST /v1/reload", "", 200},
	{"admin.sock", "POST /v1/reload", "", 422}, // the files have changed
	{"admin.sock", "GET /v1/status", "", 200},  // with why
	{"agent.sock", "GET /v1/events", "", 200},
	{"agent.sock", "GET /v1/events?since=3", "", 200},
}

// What a running agent answers fits the file, errors too; and each operation of
// the file is asked for.
func TestAnswersFitTheFile(t *testing.T) {
	doc, v := readFile(t)
	if ok, wrong := v.ValidateDocument(); !ok {
		for _, e := range wrong {
			t.Errorf("the file is no OpenAPI 3.1: %s: %s", e.Message, e.Reason)
		}
	}
	dir, file := serve(t)
	asked := map[string]bool{}
	for i, one := range asks {
		if one.request == "POST /v1/reload" {
			text := "version: 1\nupstreams: {shop: {match: [{host: shop.internal}]}, new: {}}\n"
			if one.want == 422 {
				text = "version: 1\nupstreams: {shop: {bulkhed: {}, timeout: {attempt: 2}}}\n"
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		method, target, _ := strings.Cut(one.request, " ")
		path, _, _ := strings.Cut(target, "?")
		asked[strings.ToLower(method)+" "+path] = true
		t.Run(fmt.Sprintf("%d %s %s", i, method, path), func(t *testing.T) {
			r, resp := send(t, filepath.Join(dir, one.socket), method, target, one.body)
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != one.want {
				t.Fatalf("%s %s: %s %v\n%s", one.request, one.body, resp.Status, err, body)
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			if ok, wrong := v.ValidateHttpResponse(r, resp); !ok {
				for _, e := range wrong {
					t.Errorf("%s: %s: %s %v\n%s", one.request, e.Message, e.Reason, e.SchemaValidationErrors, body)
				}
			}
			if one.want == 200 { // what is right is right by the file too
				r.Body = io.NopCloser(strings.NewReader(one.body))
				if ok, wrong := v.ValidateHttpRequest(r); !ok {
					for _, e := range wrong {
						t.Errorf("the request %s %s: %s: %s", one.request, one.body, e.Message, e.Reason)
					}
				}
			}
		})
	}
	model, err := doc.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	operations := 0
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method := range item.GetOperations().FromOldest() {
			operations++
			if !asked[method+" "+path] {
				t.Errorf("%s %s is in the file, and is not asked for here", method, path)
			}
		}
	}
	if operations < 12 {
		t.Errorf("found %d operations; the walk is broken", operations)
	}
}

// The validator finds what does not fit, or the test above would say nothing.
func TestValidatorFindsWhatDoesNotFit(t *testing.T) {
	_, v := readFile(t)
	for name, one := range map[string]struct {
		target, kind, body string
		status             int
	}{
		"a missing field":           {"/v1/history", "application/json", `{"limits": []}`, 200},
		"a negative count":          {"/v1/history", "application/json", `{"seconds": 5, "limits": [{"upstream": "u", "kind": "bulkhead", "in_use": [-1], "waiting": [], "taken": [], "samples": []}]}`, 200},
		"an unknown word":           {"/v1/history", "application/json", `{"seconds": 5, "limits": [{"upstream": "u", "kind": "bulk", "in_use": [], "waiting": [], "taken": [], "samples": []}]}`, 200},
		"another media type":        {"/v1/history", "text/plain", `no`, 200},
		"a problem of another kind": {"/v1/history", "application/problem+json", `{"type": "about:blank", "title": "no", "status": 404}`, 404},
		"a problem as plain text":   {"/v1/history", "text/plain; charset=utf-8", `404 page not found`, 404},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest("GET", "http://resagent"+one.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp := &http.Response{StatusCode: one.status, Header: http.Header{"Content-Type": {one.kind}}, Body: io.NopCloser(strings.NewReader(one.body)), Request: r}
			if ok, _ := v.ValidateHttpResponse(r, resp); ok {
				t.Errorf("%s passes", one.body)
			}
		})
	}
}

func readFile(t *testing.T) (libopenapi.Document, validator.Validator) {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return doc, v
}

// serve runs an agent with one process that uses limits, and gives its folder
// and its policy file.
func serve(t *testing.T) (dir, file string) {
	dir, err := os.MkdirTemp("", "ra") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file = filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	a := &agent.Agent{
		Socket: filepath.Join(dir, "agent.sock"), AdminSocket: filepath.Join(dir, "admin.sock"), Ledger: filepath.Join(dir, "ledger"),
		Load:  func() (*policies.Snapshot, error) { return policyfile.Load(file) },
		Ready: func() { close(ready) },
	}
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	s := &client.Session{Socket: a.Socket}
	t.Cleanup(func() { s.Close() })
	s.Attach(t.Context())
	limits := s.Limits("shop", &s.Policies().Named("shop").Policy)
	p, err := limits.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	if err := limits.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	for len(a.History().Limits) == 0 { // the agent looks once a second
		select {
		case <-t.Context().Done():
			t.Fatal("nothing is in the history")
		default:
		}
	}
	return dir, file
}

func send(t *testing.T, socket, method, target, body string) (*http.Request, *http.Response) {
	r, err := http.NewRequestWithContext(t.Context(), method, "http://resagent"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return r, resp
}
