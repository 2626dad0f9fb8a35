package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/resagent/resagent/policies"
)

// TestCollapseAtRandom: many callers, keys and ends at once, on real time. Each
// gets its own key's answer, whole, or its own error, and nothing stays behind.
func TestCollapseAtRandom(t *testing.T) {
	before := goleak.IgnoreCurrent()
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(time.Duration(rand.IntN(2000)) * time.Microsecond):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
		switch rand.IntN(12) {
		case 0:
			return nil, errReset
		case 1:
			panic("boom")
		case 2:
			return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		}
		control := []string{"max-age=60", "max-age=0, stale-while-revalidate=60", "no-store", "max-age=0"}[rand.IntN(4)]
		body := strings.Repeat(r.URL.Path+r.Header.Get("Authorization"), 100)
		return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {control}}, ContentLength: int64(len(body)), Request: r,
			Body: io.NopCloser(strings.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1}, nil
	})
	p := freshOnly()
	p.Fallback.Stale.After = 5 * time.Millisecond
	p.CircuitBreaker = &policies.CircuitBreaker{Disabled: true}
	tr := &Transport{Base: base, Policies: compile(t, named(p)), Agent: alone(t)}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 150 {
				oneOfMany(t, tr)
			}
		})
	}
	wg.Wait()
	goleak.VerifyNone(t, before)
}

// oneOfMany makes one call of TestCollapseAtRandom.
func oneOfMany(t *testing.T, tr *Transport) {
	path, user := fmt.Sprint("/", rand.IntN(3)), fmt.Sprint("user", rand.IntN(2))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if rand.IntN(4) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(1000))*time.Microsecond, cancel)
	}
	method := []string{"GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "PUT"}[rand.IntN(8)]
	req, err := http.NewRequestWithContext(ctx, method, host+path, nil)
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Authorization", user)
	defer func() {
		if v := recover(); v != nil && v != "boom" {
			t.Errorf("panicked: %v", v)
		}
	}()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if !errors.Is(err, errReset) && ctx.Err() == nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return
	}
	defer resp.Body.Close()
	if rand.IntN(8) == 0 {
		return // without reading
	}
	body, err := io.ReadAll(resp.Body)
	if want := strings.Repeat(path+user, 100); err == nil && method == "GET" && resp.StatusCode == 200 && string(body) != want {
		t.Errorf("%s for %s: got %d bytes %.40q", path, user, len(body), body)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
