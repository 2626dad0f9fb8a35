//go:build linux

package agent

import (
	"net/http"
	"slices"
	"strings"
)

// route is one thing that can be asked for. docs/openapi.yaml has the same
// ones.
type route struct {
	method, path string
	changes      bool // on the admin socket alone
	answer       http.HandlerFunc
}

// routes is the whole API.
func (a *Agent) routes() []route {
	return []route{
		{"GET", "/healthz", false, a.healthz},
		{"GET", "/metrics", false, a.metrics},
		{"GET", "/v1/status", false, a.statusAsked},
		{"GET", "/v1/policies", false, a.policies},
		{"GET", "/v1/explain", false, a.explain},
		{"GET", "/v1/events", false, a.eventsAfter},
		{"GET", "/v1/history", false, a.historyAsked},
		{"GET", "/v1/session", false, a.session},
		{"GET", "/v1/overrides", true, func(w http.ResponseWriter, _ *http.Request) {
			reply(w, map[string]any{"overrides": append([]Override{}, a.Overrides()...)})
		}},
		{"POST", "/v1/overrides", true, a.setOverride},
		{"DELETE", "/v1/overrides", true, a.clearOverrides},
		{"POST", "/v1/breakers", true, a.breakers},
		{"POST", "/v1/reload", true, a.reload},
	}
}

// reading is the agent's socket: nothing on it changes anything.
func (a *Agent) reading() http.Handler { return a.handler(false) }

// changing is the admin socket.
func (a *Agent) changing() http.Handler { return a.handler(true) }

func (a *Agent) handler(admin bool) http.Handler {
	mux := http.NewServeMux()
	var here []route
	for _, r := range a.routes() {
		if admin || !r.changes {
			mux.HandleFunc(r.method+" "+r.path, r.answer)
			here = append(here, r)
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { a.nothing(w, r, here) })
	return mux
}

// nothing answers what no route does.
func (a *Agent) nothing(w http.ResponseWriter, r *http.Request, here []route) {
	var methods, paths []string
	for _, one := range here {
		if one.path == r.URL.Path {
			methods = append(methods, one.method)
		}
		paths = append(paths, one.path)
	}
	elsewhere := slices.ContainsFunc(a.routes(), func(one route) bool { return one.path == r.URL.Path })
	switch {
	case len(methods) > 0:
		if slices.Contains(methods, "GET") {
			methods = append(methods, "HEAD")
		}
		w.Header().Set("Allow", strings.Join(methods, ", "))
		problem(w, http.StatusMethodNotAllowed, wrongMethod, "this is not done with this method", "use "+strings.Join(methods, " or "))
	case elsewhere:
		problem(w, http.StatusNotFound, noSuchPath, "this is asked of the admin socket", "ask admin.sock, beside this one")
	default:
		problem(w, http.StatusNotFound, noSuchPath, "there is nothing of this name", "there are "+strings.Join(slices.Compact(paths), ", "))
	}
}
