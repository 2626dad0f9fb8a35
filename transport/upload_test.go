package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/policies"
)

// TestBodyReplay: the same bytes on each attempt, from GetBody without a copy
// or from what was kept; and one Close.
func TestBodyReplay(t *testing.T) {
	small, large := strings.Repeat("s", keepMost), strings.Repeat("l", keepMost+1)
	for _, tc := range []struct {
		name, body string
		getBody    bool
		want       int // attempts
	}{
		{"kept", small, false, 3},
		{"too long to be kept", large, false, 1},
		{"GetBody", large, true, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, s := through(t, policies.Policy{}, answer{status: 503}, answer{err: errReset}, answer{status: 503})
				src := &tracked{Reader: strings.NewReader(tc.body)}
				req := request(t, "PUT", src)
				var made []*tracked
				if tc.getBody {
					req.GetBody = func() (io.ReadCloser, error) {
						b := &tracked{Reader: strings.NewReader(tc.body)}
						made = append(made, b)
						return b, nil
					}
				}
				resp, err := tr.RoundTrip(req)
				if err != nil || resp.StatusCode != 503 {
					t.Fatalf("got %v, %v", resp, err)
				}
				if s.count() != tc.want {
					t.Errorf("%d attempts, want %d", s.count(), tc.want)
				}
				for i, c := range s.calls {
					if c.body != tc.body {
						t.Errorf("attempt %d had %d bytes, want %d", i+1, len(c.body), len(tc.body))
					}
				}
				for i, b := range append(made, src) {
					if b.times.Load() != 1 {
						t.Errorf("body %d was closed %d times", i, b.times.Load())
					}
				}
			})
		})
	}
}

// TestReplayWaitsForClose: without GetBody the second attempt begins only when
// the base has let go of the first one's body, as net/http may do late.
func TestReplayWaitsForClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(req *http.Request) (*http.Response, error) {
			var one [1]byte
			io.ReadFull(req.Body, one[:])
			time.AfterFunc(time.Second, func() { req.Body.Close() })
			return nil, errReset
		}
		tr, s := through(t, policies.Policy{}, answer{do: late}, answer{status: 200})
		resp, err := tr.RoundTrip(request(t, "PUT", &tracked{Reader: strings.NewReader("whole")}))
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		if s.calls[1].body != "whole" {
			t.Errorf("second attempt had %q", s.calls[1].body)
		}
	})
}

// TestBrokenBody: the caller's own body failing is nobody else's failure.
func TestBrokenBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("disk error")
		tr, s := through(t, policies.Policy{CircuitBreaker: &policies.CircuitBreaker{ConsecutiveFailures: 1}}, answer{status: 200})
		for range 3 {
			body := io.MultiReader(strings.NewReader("half"), &errReader{bad})
			_, err := tr.RoundTrip(request(t, "PUT", &tracked{Reader: body}))
			if !errors.Is(err, bad) {
				t.Errorf("got %v, want the body's own error", err)
			}
		}
		if s.count() != 3 {
			t.Errorf("%d attempts for 3 calls, want none retried and none refused", s.count())
		}
	})
}

type errReader struct{ err error }

func (r *errReader) Read([]byte) (int, error) { return 0, r.err }

func TestSilentReplaysAreCounted(t *testing.T) {
	replaying := func(req *http.Request) (*http.Response, error) {
		req.Body.Close()
		unused, err := req.GetBody() // as over HTTP/2, where another connection has to be made
		if err != nil {
			return nil, err
		}
		unused.Close()
		again, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		data, _ := io.ReadAll(again)
		again.Close()
		if strings.Trim(string(data), "body") != "" || len(data) < 4 {
			return nil, errors.New("other bytes: " + string(data))
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}
	tr, _ := through(t, policies.Policy{}, answer{do: replaying})
	for _, times := range []int{1, plainMost} {
		var info Info
		req := request(t, "POST", bytes.NewReader(bytes.Repeat([]byte("body"), times)))
		if _, err := tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info))); err != nil {
			t.Fatal(err)
		}
		if info.Replays != 1 || info.Attempts != 1 {
			t.Errorf("info %+v, want one replay in one attempt", info)
		}
	}
}

// TestConflictAfterSilentReplay: the 409 answers what the base sent first, and
// may be asked again like one after our own retry.
func TestConflictAfterSilentReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replaying := func(req *http.Request) (*http.Response, error) {
			req.Body.Close()
			again, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			io.Copy(io.Discard, again)
			again.Close()
			return &http.Response{StatusCode: 409, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}
		tr, s := through(t, policies.Policy{Idempotency: &policies.Idempotency{}}, answer{do: replaying}, answer{status: 201})
		resp, err := tr.RoundTrip(request(t, "POST", strings.NewReader("body")))
		if err != nil || resp.StatusCode != 201 || s.count() != 2 {
			t.Errorf("got %v, %v after %d attempts", resp, err, s.count())
		}
	})
}

// TestSmallBodiesStayPlain: net/http knows the types of bodies in memory and
// sends small ones together with the headers.
func TestSmallBodiesStayPlain(t *testing.T) {
	for size, plain := range map[int]bool{plainMost: true, plainMost + 1: false} {
		var got io.ReadCloser
		tr, _ := through(t, policies.Policy{}, answer{do: func(req *http.Request) (*http.Response, error) {
			got = req.Body
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}})
		req := request(t, "POST", strings.NewReader(strings.Repeat("x", size)))
		if _, err := tr.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if (got == req.Body) != plain {
			t.Errorf("%d bytes: the base got a %T", size, got)
		}
	}
}

// A base that fails need not close the body: it is closed for it, once, when
// the last Read of it has ended.
func TestBaseThatForgetsTheBody(t *testing.T) {
	neither := func(*http.Request) (*http.Response, error) { return nil, nil }
	both := func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, errReset
	}
	failing := func(*http.Request) (*http.Response, error) { return nil, errReset }
	for name, base := range map[string]func(*http.Request) (*http.Response, error){"neither": neither, "both": both, "an error": failing} {
		for _, getBody := range []bool{false, true} {
			for _, tries := range []int{1, 3} {
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						tr, _ := through(t, policies.Policy{Retry: &policies.Retry{MaxAttempts: tries}}, answer{do: base}, answer{do: base}, answer{do: base})
						bodies := []*tracked{{Reader: strings.NewReader("body")}}
						req := request(t, "PUT", bodies[0])
						if getBody {
							req.GetBody = func() (io.ReadCloser, error) {
								bodies = append(bodies, &tracked{Reader: strings.NewReader("body")})
								return bodies[len(bodies)-1], nil
							}
						}
						if _, err := tr.RoundTrip(req); err == nil {
							t.Error("no error")
						}
						for i, b := range bodies {
							if n := b.times.Load(); n != 1 {
								t.Errorf("GetBody %v, %d attempts: body %d was closed %d times", getBody, tries, i, n)
							}
						}
					})
				})
			}
		}
	}
}

// A Read that is under way when the base fails is not cut off, and closes the
// body when it ends; the base may close it before.
func TestReadUnderWayWhenTheBaseFails(t *testing.T) {
	for name, closes := range map[string]bool{"the Read ends": false, "the base closes": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, out := io.Pipe()
				src := &tracked{Reader: in}
				var body io.ReadCloser
				read := make(chan error, 1)
				tr, _ := through(t, policies.Policy{Retry: &policies.Retry{MaxAttempts: 1}}, answer{do: func(req *http.Request) (*http.Response, error) {
					body = req.Body
					go func() { _, err := req.Body.Read(make([]byte, 1)); read <- err }()
					synctest.Wait()
					return nil, errReset
				}})
				if _, err := tr.RoundTrip(request(t, "PUT", src)); !errors.Is(err, errReset) {
					t.Fatalf("got %v", err)
				}
				if n := src.times.Load(); n != 0 {
					t.Errorf("closed %d times while it is read", n)
				}
				if closes {
					body.Close()
					if n := src.times.Load(); n != 1 {
						t.Errorf("closed by the base, %d times", n)
					}
				}
				out.Write([]byte("x"))
				if err := <-read; err != nil {
					t.Errorf("the Read ended with %v", err)
				}
				synctest.Wait()
				if n := src.times.Load(); n != 1 {
					t.Errorf("closed %d times in the end", n)
				}
				if _, err := body.Read(make([]byte, 1)); err == nil {
					t.Error("a Read after the end")
				}
			})
		})
	}
}
