package idempotency

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// problem is an answer of RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Original is the status of an answer that is too large to be given again.
	Original int `json:"original_status,omitempty"`
}

// draft explains 400, 409 and 422 in its section 2.7.
const draft = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header"

// send writes the problem. retry is in seconds; 0: no Retry-After.
func (p problem) send(w http.ResponseWriter, retry int) {
	if p.Type == "" {
		p.Type = draft
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers only
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if retry > 0 {
		h.Set("Retry-After", strconv.Itoa(retry))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // a client that has gone does not read it
}
