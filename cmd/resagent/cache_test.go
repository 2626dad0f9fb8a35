package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resagent/resagent/fallbackcache"
)

// cache list, show and purge see what a program's cache has in its folder.
func TestCacheCommand(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "resagent")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	cache := &fallbackcache.Cache{Dir: dir}
	for url, user := range map[string]string{"http://a.test/one": "", "http://a.test/two?x=1": "Bearer s3cret", "http://b.test/": ""} {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.Header.Set("Authorization", user)
		}
		resp := cache.Keep(req, &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Header: http.Header{"Cache-Control": {"max-age=60"}, "X-Evil": {"\x1b[2J"}}, Body: io.NopCloser(strings.NewReader("body")), ContentLength: 4}, time.Now())
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args string
		code int
		want []string
		not  []string
	}{
		{"list", 0, []string{"http://a.test/one", "one user", "http://a.test/two?x=1", "http://b.test/"}, []string{"s3cret"}},
		{"list http://a.test/", 0, []string{"http://a.test/one"}, []string{"b.test"}},
		{"list --json", 0, []string{`"URL":"http://b.test/"`, `"Private":true`}, []string{"s3cret"}},
		{"show http://a.test/two?x=1", 0, []string{"status 200, body 4 bytes", "for the credentials", "Cache-Control: max-age=60"}, []string{"s3cret", "\x1b"}},
		{"show http://a.test/", 1, []string{"nothing is stored"}, nil},
		{"show", 2, []string{"wants a URL"}, nil},
		{"lsit", 2, []string{`did you mean "list"`}, nil},
		{"purge http://a.test/", 0, []string{"purged 2 answers"}, nil},
		{"list", 0, []string{"http://b.test/"}, []string{"a.test"}},
		{"purge", 0, []string{"purged 1 answer"}, nil},
		{"list", 0, nil, []string{"http"}},
	} {
		args := strings.Fields(c.args)
		args = append([]string{"cache", args[0], dir}, args[1:]...)
		cmd := exec.Command(bin, args...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%s: exit code %d, want %d: %s", c.args, code, c.code, out)
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q in\n%s", c.args, want, out)
			}
		}
		for _, not := range c.not {
			if strings.Contains(string(out), not) {
				t.Errorf("%s: %q in\n%s", c.args, not, out)
			}
		}
	}
	req, err := http.NewRequest("GET", "http://b.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := cache.Find(req, time.Hour, time.Now()); ok {
		t.Error("the running cache still gives what was purged")
	}
	cmd := exec.Command(bin, "cache", "list", t.TempDir())
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "resagent: no disk store in") {
		t.Errorf("an empty folder: %v %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "resagent-v1")); err != nil {
		t.Error(err)
	}
}
