//go:build linux

package agent

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/resagent/resagent/agent/wire"
)

// observed is where the files for Prometheus and Grafana are.
const observed = "../systemd/prometheus"

// Promtool is Prometheus's own checker; "" if it is not here, which is said.
func Promtool(t *testing.T) string {
	for _, name := range []string{"../bin/promtool", "promtool"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Log("NOT TESTED: what promtool says. make bin/promtool gets it from Debian")
	return ""
}

// TestAlerts: each alert fires when its tests say, and each has tests.
func TestAlerts(t *testing.T) {
	rules, tests := observedFile(t, "alerts.yaml"), observedFile(t, "alerts_test.yaml")
	names := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1)
	if len(names) == 0 {
		t.Fatal("no alerts found")
	}
	for _, name := range names {
		if n := strings.Count(tests, "alertname: "+name[1]+"\n"); n == 0 {
			t.Errorf("%s has no test", name[1])
		}
		if !regexp.MustCompile(`alertname: ` + name[1] + `\n +exp_alerts:\n`).MatchString(tests) {
			t.Errorf("no test has %s fire", name[1])
		}
	}
	tool := Promtool(t)
	if tool == "" {
		return
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(tool, args...)
		cmd.Dir = observed
		if path, err := filepath.Abs(tool); err == nil {
			cmd.Path = path
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestDashboardIsJSON: Grafana can read it, and each panel asks for something.
func TestDashboardIsJSON(t *testing.T) {
	var d struct {
		UID    string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(observedFile(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID != "resagent" || len(d.Panels) == 0 {
		t.Fatalf("uid %q, %d panels", d.UID, len(d.Panels))
	}
	seen := map[int]bool{}
	for _, p := range d.Panels {
		if seen[p.ID] || len(p.Targets) == 0 || p.Targets[0].Expr == "" {
			t.Errorf("panel %d, %q: its id is another's too, or it asks for nothing", p.ID, p.Title)
		}
		seen[p.ID] = true
	}
}

// TestObservedIsExposed: alerts and dashboard name only metrics, kinds and
// states that the agent exposes.
func TestObservedIsExposed(t *testing.T) {
	s := Status{Circuits: []CircuitStatus{{Upstream: "a", State: "open"}}, Upstreams: []UpstreamStatus{{Name: "a"}}}
	for _, kind := range []wire.Kind{wire.Bulkhead, wire.RateLimit, wire.RetryBudget} {
		s.Limits = append(s.Limits, LimitStatus{Upstream: "a", Kind: kind})
	}
	text := string(exposition(s, map[EventKind]uint64{Reload: 1}))
	metric := regexp.MustCompile(`\bresagent_[a-z_]+`)
	label := regexp.MustCompile(`\b(kind|state|reason)(?:=~?|!=)\\?"([a-z_|-]+)\\?"`)
	for _, name := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json"} {
		file := observedFile(t, name)
		found := metric.FindAllString(file, -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", name)
		}
		for _, m := range found {
			if !strings.Contains(text, "# TYPE "+m+" ") {
				t.Errorf("%s names %s, which the agent does not expose", name, m)
			}
		}
		for _, m := range label.FindAllStringSubmatch(file, -1) {
			for value := range strings.SplitSeq(m[2], "|") {
				if !strings.Contains(text, m[1]+`="`+value+`"`) {
					t.Errorf("%s asks for %s %q, which the agent never gives", name, m[1], value)
				}
			}
		}
	}
}

func observedFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(observed, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
