//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/policies"
)

// asks sends requests to the admin socket's handler as this process.
func asks(t *testing.T, a *Agent) func(method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	l, err := Listen(filepath.Join(t.TempDir(), "s"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	near, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); l.Close() })
	ctx := context.WithValue(t.Context(), connKey{}, net.Conn(near))
	return func(method, target, body string) *httptest.ResponseRecorder {
		t.Helper()
		w := httptest.NewRecorder()
		a.changing().ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, "http://resagent"+target, strings.NewReader(body)))
		return w
	}
}

// Each order is one line of the log, with who gave it, what it is, until when
// and why; also where there is no circuit yet.
func TestOrdersAreLogged(t *testing.T) {
	w, log := deskOf(t)
	w.a.Load = w.snapshot
	ask := asks(t, w.a)
	who := fmt.Sprintf(`uid=%d pid=%d`, os.Getuid(), os.Getpid())
	const until = `\d{4}-\d\d-\d\dT\S+?`
	long := strings.Repeat("é", 2000)
	for _, c := range []struct{ method, target, body, line string }{
		{"POST", "/v1/breakers?upstream=a&to=open&for=30m&reason=moved", "", `msg=circuit-forced upstream=a order="open until ` + until + `" reason=moved ` + who},
		{"POST", "/v1/breakers?upstream=a&to=auto", "", `msg=circuit-forced upstream=a order=auto reason="" ` + who},
		{"POST", "/v1/overrides", `{"upstream":"a","values":{"timeout.attempt":"1s","timeout.total":"5s"},"for":"30m","reason":"they asked"}`,
			`msg=override-set upstream=a override=1 values="timeout.attempt=1s timeout.total=5s" until=` + until + ` reason="they asked" overrides=1 generation=1 ` + who},
		{"POST", "/v1/overrides", `{"upstream":"b","values":{"fallback.static.body":"` + long + `"},"for":"30m","reason":"r"}`,
			`msg=override-set upstream=b override=2 values="fallback.static.body=é{489}\.\.\." .*` + who},
		{"DELETE", "/v1/overrides?upstream=a", "",
			`msg=override-cleared upstream=a ended="override 1 of uid \d+, a timeout.attempt=1s timeout.total=5s until ` + until + `: they asked" overrides=1 generation=3 ` + who},
		{"POST", "/v1/reload", "", `msg=reloaded changed=true changes="c: added" generation=4 upstreams=3 ` + who},
	} {
		log.Reset()
		if strings.HasSuffix(c.target, "reload") {
			w.policy["c"] = policies.CircuitBreaker{}
		}
		if got := ask(c.method, c.target, c.body); got.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", c.method, c.target, got.Code, got.Body)
		}
		if text := strings.TrimSpace(log.String()); !regexp.MustCompile(`^time=\S+ level=INFO ` + c.line + `$`).MatchString(text) {
			t.Errorf("%s %s logs\n%s\nwant one line with\n%s", c.method, c.target, text, c.line)
		}
	}
	log.Reset()
	if _, err := w.a.Reload(); err != nil || !strings.Contains(log.String(), `by="the agent itself, as by SIGHUP"`) {
		t.Errorf("a reload by a signal: %v, logs %s", err, log)
	}
}

// Who reloads, or lays or clears an override, is told what ends with it of the
// orders and overrides of others.
func TestChangesTellWhatTheyEnd(t *testing.T) {
	w, _ := deskOf(t)
	w.a.Load = w.snapshot
	force := func(upstream string) {
		t.Helper()
		if _, err := w.a.Force(upstream, Forced{To: "open", By: "uid 7", Reason: "r", Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	ends := func(what string, c Consequences, order, override string) {
		t.Helper()
		if (order != "") != (len(c.EndedOrders) == 1) || order != "" && c.EndedOrders[order] == nil {
			t.Errorf("%s ended the orders %v, want that of %q", what, c.EndedOrders, order)
		}
		if (override != "") != (len(c.DroppedOverrides) == 1) || override != "" && (c.DroppedOverrides[0].Upstream != override || c.DroppedOverrides[0].Why == "") {
			t.Errorf("%s dropped %+v, want that of %q, and why", what, c.DroppedOverrides, override)
		}
	}
	force("a")
	force("b")
	ends("an override of something else", layOne(t, w.a, time.Hour, "timeout.attempt=1s").Consequences, "", "")
	ends("an override", layOne(t, w.a, time.Hour, "circuit_breaker.scope=process").Consequences, "a", "")
	if _, err := w.a.override(Override{Upstream: "b", Values: map[string]string{"timeout.attempt": "1s"}, Reason: "r"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	delete(w.policy, "b")
	done, err := w.a.Reload()
	if err != nil {
		t.Fatal(err)
	}
	ends("a reload", done.Consequences, "b", "b")
	if text, _ := os.ReadFile(w.a.overridesPath()); strings.Contains(string(text), `"b"`) {
		t.Errorf("the file has what was dropped: %s", text)
	}
	if done, err = w.a.Reload(); err != nil {
		t.Fatal(err)
	}
	ends("a second reload", done.Consequences, "", "")
}

// A reason is one line: it stands in tables.
func TestReasonsAreOneLine(t *testing.T) {
	w, _ := deskOf(t)
	ask := asks(t, w.a)
	for _, reason := range []string{"two\nlines", "a\ttab", "\x1b[2Jclear", "c1 \u009b"} {
		body, _ := json.Marshal(OverrideRequest{Upstream: "a", Values: map[string]string{"timeout.attempt": "1s"}, For: "1h", Reason: reason})
		for target, content := range map[string]string{
			"/v1/overrides": string(body),
			"/v1/breakers?" + url.Values{"upstream": {"a"}, "to": {"open"}, "for": {"1h"}, "reason": {reason}}.Encode(): "",
		} {
			if got := ask("POST", target, content); got.Code/100 != 4 || !strings.Contains(got.Body.String(), "control characters") {
				t.Errorf("%s with the reason %q: %d %s", target, reason, got.Code, got.Body)
			}
		}
	}
	if len(w.a.Overrides())+len(w.a.forcedNow()) > 0 {
		t.Errorf("in force: %+v, %v", w.a.Overrides(), w.a.forcedNow())
	}
	if got := ask("POST", "/v1/breakers?upstream=a&to=open&for=1h&reason="+url.QueryEscape("größer, \"ja\""), ""); got.Code != http.StatusOK {
		t.Errorf("a plain reason: %d %s", got.Code, got.Body)
	}
}
