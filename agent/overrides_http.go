//go:build linux

package agent

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/resagent/resagent/policies"
)

// OverrideRequest is the body of POST /v1/overrides.
type OverrideRequest struct {
	Upstream string            `json:"upstream"`
	Values   map[string]string `json:"values"`
	For      string            `json:"for"` // a duration, such as 30m
	Reason   string            `json:"reason"`
}

// setOverride answers POST /v1/overrides.
func (a *Agent) setOverride(w http.ResponseWriter, r *http.Request) {
	var asked OverrideRequest
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	body.DisallowUnknownFields()
	if err := body.Decode(&asked); err != nil {
		problem(w, http.StatusBadRequest, wrongBody, "the body is not understood", err.Error()+`; write {"upstream": "...", "values": {"bulkhead.max_concurrent": "20"}, "for": "30m", "reason": "..."}`)
		return
	}
	lasts, err := time.ParseDuration(asked.For)
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, refusedOverride, "the override is refused", "for: "+err.Error()+"; write a time such as 30m")
		return
	}
	uid, pid := asker(r)
	done, err := a.override(Override{Upstream: asked.Upstream, Values: asked.Values, Reason: asked.Reason, UID: uid, PID: pid}, lasts)
	switch {
	case errors.As(err, new(policies.Errors)):
		refused(w, refusedOverride, "the override is refused", err)
	case err != nil:
		problem(w, http.StatusInternalServerError, notDone, "the override is not in force", err.Error())
	default:
		reply(w, done)
	}
}

// clearOverrides answers DELETE /v1/overrides, with ?upstream= for one's own.
func (a *Agent) clearOverrides(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	upstream := q.Get("upstream")
	if err != nil || upstream == "" && r.URL.RawQuery != "" { // what names nobody must not clear those of all
		problem(w, http.StatusBadRequest, wrongQuery, "the upstream is empty or not understood", "write ?upstream=NAME, or no query to clear those of all")
		return
	}
	uid, pid := asker(r)
	done, err := a.clear(upstream, Event{UID: &uid, PID: pid})
	if err != nil {
		problem(w, http.StatusInternalServerError, notDone, "the overrides are not cleared", err.Error())
		return
	}
	reply(w, done)
}
