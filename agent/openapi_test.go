//go:build linux

package agent

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/resagent/resagent/policies"
)

// openapi is what these tests need of docs/openapi.yaml. That it is OpenAPI,
// and that answers fit it, is tested in integration/openapi.
type openapi struct {
	Paths map[string]map[string]struct {
		Tags    []string
		Summary string
	}
	Components struct {
		Schemas map[string]struct {
			Description string
			Pattern     string
			Required    []string
			Properties  map[string]struct{ Pattern string }
		}
	}
}

func readOpenAPI(t *testing.T) (o openapi) {
	t.Helper()
	text, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// Each route of the code is in the file, and each of the file in the code, with
// the socket on which it is.
func TestRoutesAreInTheFile(t *testing.T) {
	file := readOpenAPI(t)
	var code, written []string
	for _, r := range new(Agent).routes() {
		socket := "agent"
		if r.changes {
			socket = "admin"
		}
		code = append(code, socket+" "+r.method+" "+r.path)
	}
	for path, methods := range file.Paths {
		for method, one := range methods {
			written = append(written, strings.Join(one.Tags, "+")+" "+strings.ToUpper(method)+" "+path)
			if one.Summary == "" {
				t.Errorf("%s %s has no summary", method, path)
			}
		}
	}
	for _, one := range code {
		if !slices.Contains(written, one) {
			t.Errorf("%s is a route, and not in docs/openapi.yaml, which has %q", one, written)
		}
	}
	for _, one := range written {
		if !slices.Contains(code, one) {
			t.Errorf("%s is in docs/openapi.yaml, and no route", one)
		}
	}
}

// Each field of an answer is in the file, and each of the file in the answer;
// what is always there is required.
func TestFieldsAreInTheFile(t *testing.T) {
	file := readOpenAPI(t)
	for name, typ := range map[string]reflect.Type{
		"Problem": reflect.TypeFor[Problem](), "Mistake": reflect.TypeFor[policies.Error](), "Position": reflect.TypeFor[policies.Position](),
		"Status": reflect.TypeFor[Status](), "SessionStatus": reflect.TypeFor[SessionStatus](), "Refusal": reflect.TypeFor[Refusal](), "LimitStatus": reflect.TypeFor[LimitStatus](),
		"UpstreamStatus": reflect.TypeFor[UpstreamStatus](), "CallStatus": reflect.TypeFor[CallStatus](), "RecentCalls": reflect.TypeFor[RecentCalls](), "ProcessStatus": reflect.TypeFor[ProcessStatus](),
		"CircuitStatus": reflect.TypeFor[CircuitStatus](), "Forced": reflect.TypeFor[Forced](), "Ordered": reflect.TypeFor[Ordered](),
		"Override": reflect.TypeFor[Override](), "OverrideRequest": reflect.TypeFor[OverrideRequest](), "Cleared": reflect.TypeFor[Cleared](), "Laid": reflect.TypeFor[Laid](), "Dropped": reflect.TypeFor[Dropped](),
		"Event": reflect.TypeFor[Event](), "Change": reflect.TypeFor[policies.Change](), "Reloaded": reflect.TypeFor[Reloaded](),
		"Explanation": reflect.TypeFor[policies.Explanation](), "Match": reflect.TypeFor[policies.Match](), "Value": reflect.TypeFor[policies.Value](),
		"History": reflect.TypeFor[History](), "LimitHistory": reflect.TypeFor[LimitHistory](),
	} {
		schema, ok := file.Components.Schemas[name]
		if !ok {
			t.Errorf("docs/openapi.yaml has no schema %s", name)
			continue
		}
		var fields []string
		for _, f := range reflect.VisibleFields(typ) {
			field, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if field == "" || field == "-" {
				continue // of an embedded struct the fields come by themselves
			}
			fields = append(fields, field)
			if _, ok := schema.Properties[field]; !ok {
				t.Errorf("%s.%s is a field of the answer, and not in docs/openapi.yaml", name, field)
			}
			always := !strings.Contains(options, "omit")
			if always != slices.Contains(schema.Required, field) {
				t.Errorf("%s.%s is always there: %v; docs/openapi.yaml says otherwise", name, field, always)
			}
		}
		for field := range schema.Properties {
			if !slices.Contains(fields, field) {
				t.Errorf("%s.%s is in docs/openapi.yaml, and no field of the answer", name, field)
			}
		}
	}
}

// Each kind of problem of the code is explained in the file.
func TestProblemsAreInTheFile(t *testing.T) {
	problem := readOpenAPI(t).Components.Schemas["Problem"]
	pattern := problem.Properties["type"].Pattern
	_, list, _ := strings.Cut(pattern, "#(")
	written := strings.Split(strings.TrimSuffix(list, ")$"), "|")
	code := []string{noSuchPath, wrongMethod, wrongQuery, wrongBody, noSuchUpstream, refusedPolicies, refusedOverride,
		circuitAsItWas, noUpgrade, noSession, noConnection, tooMany, notDone}
	slices.Sort(written)
	slices.Sort(code)
	if !slices.Equal(written, code) {
		t.Errorf("docs/openapi.yaml has the problems %q, and the code %q", written, code)
	}
}
