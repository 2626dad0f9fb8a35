package clients

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/google/go-github/v74/github"

	"github.com/resagent/resagent/transport"
)

// TestGitHub: a client without retries of its own. It reads status and headers
// of failures, and asks the transport itself where it wants no redirect.
func TestGitHub(t *testing.T) {
	var reads, writes atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repos/o/flaky", func(w http.ResponseWriter, _ *http.Request) {
		if reads.Add(1) < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("X-RateLimit-Remaining", "41")
		io.WriteString(w, `{"id": 7, "full_name": "o/flaky"}`)
	})
	mux.HandleFunc("POST /repos/o/r/issues", func(w http.ResponseWriter, r *http.Request) {
		writes.Add(1)
		var issue github.IssueRequest
		if err := json.NewDecoder(r.Body).Decode(&issue); err != nil {
			t.Error(err)
		}
		if issue.GetTitle() == "fails" {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"message": "not now"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"number": 1, "title": issue.GetTitle()})
	})
	mux.HandleFunc("GET /repos/o/limited", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"message": "slow down", "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`)
	})
	mux.HandleFunc("GET /repos/o/r/tarball", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	plain, events := ours(t)
	gh := github.NewClient(plain)
	var err error
	if gh.BaseURL, err = url.Parse(srv.URL + "/"); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()

	repo, resp, err := gh.Repositories.Get(ctx, "o", "flaky")
	if err != nil || repo.GetID() != 7 || resp.Rate.Remaining != 41 {
		t.Errorf("a read that failed twice: %v, %v", repo, err)
	}
	if n := reads.Load(); n != 3 {
		t.Errorf("the read was sent %d times, want 3", n)
	}
	issue, _, err := gh.Issues.Create(ctx, "o", "r", &github.IssueRequest{Title: github.Ptr("works")})
	if err != nil || issue.GetTitle() != "works" {
		t.Errorf("a write: %v, %v", issue, err)
	}
	_, _, err = gh.Issues.Create(ctx, "o", "r", &github.IssueRequest{Title: github.Ptr("fails")})
	var failed *github.ErrorResponse
	if !errors.As(err, &failed) || failed.Response.StatusCode != 503 || failed.Message != "not now" {
		t.Errorf("a write that failed: %v, want the upstream's own words", err)
	}
	if n := writes.Load(); n != 2 {
		t.Errorf("two writes were sent %d times: a POST must not be repeated", n)
	}
	_, _, err = gh.Repositories.Get(ctx, "o", "limited")
	var abuse *github.AbuseRateLimitError
	if !errors.As(err, &abuse) || abuse.GetRetryAfter().Seconds() != 120 {
		t.Errorf("a 403 with Retry-After: %v", err)
	}
	link, _, err := gh.Repositories.GetArchiveLink(ctx, "o", "r", github.Tarball, nil, 0)
	if err != nil || link.Path != "/elsewhere" {
		t.Errorf("a redirect that the client wants to see: %v, %v", link, err)
	}
	if n := events.of(transport.Retrying); n != 2 {
		t.Errorf("%d retries, want 2", n)
	}
}
