package scenarios

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resagent/resagent/transport"
)

// slowly gives one piece per Read, each after a pause.
type slowly struct {
	pieces int
	pause  time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.pieces == 0 {
		return 0, io.EOF
	}
	s.pieces--
	time.Sleep(s.pause)
	return copy(p, "piece "), nil
}

// TestZeroConfigurationLeavesAlone: what must go on as with the bare
// transport, on real net/http on both sides.
func TestZeroConfigurationLeavesAlone(t *testing.T) {
	flush := func(w http.ResponseWriter) { http.NewResponseController(w).Flush() }
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		body    *slowly
		pause   time.Duration // of the reading caller, before each read
		want    string
		took    time.Duration
	}{
		{
			name:    "an 11 s upload that moves",
			handler: count, body: &slowly{11, time.Second},
			want: "66 bytes", took: 11 * time.Second,
		},
		{
			name:    "an upload of half an hour, a piece every 50 s",
			handler: count, body: &slowly{36, 50 * time.Second},
			want: "216 bytes", took: 30 * time.Minute,
		},
		{
			name: "a 40 s long poll",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(40 * time.Second)
				io.WriteString(w, "news")
			},
			want: "news", took: 40 * time.Second,
		},
		{
			name: "a 10 s report",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(10 * time.Second)
				io.WriteString(w, "report")
			},
			want: "report", took: 10 * time.Second,
		},
		{
			name: "an event stream that is silent for 5 minutes",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for range 3 {
					io.WriteString(w, "data: x\n\n")
					flush(w)
					time.Sleep(5 * time.Minute)
				}
			},
			want: "data: x\n\ndata: x\n\ndata: x\n\n", took: 15 * time.Minute,
		},
		{
			name: "a watch of no known type that is silent for 5 minutes",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				flush(w)
				time.Sleep(5 * time.Minute)
				io.WriteString(w, "{}")
			},
			want: "{}", took: 5 * time.Minute,
		},
		{
			name: "a caller that reads slowly",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, strings.Repeat("x", 1<<20))
			},
			pause: 7 * time.Second,
			want:  strings.Repeat("x", 1<<20), took: 17 * 7 * time.Second,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, end := zero(t, tc.handler)
				defer end()
				began := time.Now()
				var resp *http.Response
				var err error
				if tc.body != nil {
					resp, err = client.Post("http://upstream.test/", "text/plain", tc.body)
				} else {
					resp, err = client.Get("http://upstream.test/")
				}
				if err != nil {
					t.Fatal(err)
				}
				got, err := readWith(resp.Body, tc.pause)
				resp.Body.Close()
				if err != nil || got != tc.want {
					t.Errorf("got %d bytes %.20q and %v, want %d bytes %.20q", len(got), got, err, len(tc.want), tc.want)
				}
				if d := time.Since(began); d != tc.took {
					t.Errorf("it took %v, want %v", d, tc.took)
				}
			})
		})
	}
}

// count says how much of a body came.
func count(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		fmt.Fprint(w, err)
		return
	}
	fmt.Fprintf(w, "%d bytes", n)
}

// readWith reads 64 KiB at a time, with a pause before each.
func readWith(r io.Reader, pause time.Duration) (string, error) {
	var all strings.Builder
	for {
		time.Sleep(pause)
		n, err := io.CopyN(&all, r, 64<<10)
		if errors.Is(err, io.EOF) {
			return all.String(), nil
		}
		if err != nil || n == 0 {
			return all.String(), err
		}
	}
}

// TestSilentSocket: a switched protocol may be silent for as long as it likes,
// in both directions.
func TestSilentSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, end := zero(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			for {
				line, err := rw.ReadString('\n')
				if err != nil {
					return
				}
				time.Sleep(7 * time.Minute)
				io.WriteString(conn, "echo "+line)
			}
		})
		defer end()
		req, err := http.NewRequest("GET", "http://upstream.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		rw, ok := resp.Body.(io.ReadWriter)
		if !ok {
			t.Fatalf("the body is a %T", resp.Body)
		}
		lines := bufio.NewReader(rw)
		for i := range 3 {
			time.Sleep(11 * time.Minute)
			fmt.Fprintf(rw, "%d\n", i)
			if got, err := lines.ReadString('\n'); got != fmt.Sprintf("echo %d\n", i) {
				t.Fatalf("got %q, %v", got, err)
			}
		}
	})
}

// TestHangingUpstreamOpensItsCircuit: with nothing configured. The 20 calls
// end with the built-in attempt timeout, and the next is refused at once.
func TestHangingUpstreamOpensItsCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, end := zero(t, func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		defer end()
		began := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				_, err := client.Post("http://upstream.test/", "text/plain", strings.NewReader("x"))
				if !errors.Is(err, transport.ErrAttemptTimeout) || time.Since(began) != time.Minute {
					t.Errorf("after %v: %v, want the attempt timeout after 1m", time.Since(began), err)
				}
			})
		}
		wg.Wait()
		var info transport.Info
		req, err := http.NewRequestWithContext(transport.WithInfo(context.Background(), &info), "GET", "http://upstream.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Do(req)
		var no *transport.RejectedError
		if !errors.As(err, &no) || !errors.Is(err, transport.ErrCircuitOpen) || no.RetryAfter <= 0 {
			t.Errorf("the next call gives %v, want an open circuit", err)
		}
		if info.Attempts != 0 || time.Since(began) != time.Minute {
			t.Errorf("the refusal came after %v and %d attempts, want at once", time.Since(began), info.Attempts)
		}
	})
}

// TestWaitsAreDrawnEvenly: what calls really wait between attempts, through
// go-retryablehttp's loop, is even over [0, base x 2^n): full jitter.
func TestWaitsAreDrawnEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls, base = 4000, 50 * time.Millisecond
		var tenths [2][10]int
		for i := range calls {
			var at []time.Time
			rt := &transport.Transport{Agent: alone(), Base: roundTrip(func(req *http.Request) (*http.Response, error) {
				at = append(at, time.Now())
				return answer(req, http.StatusBadGateway), nil
			})}
			get(rt, fmt.Sprintf("host-%d.test", i))
			if len(at) != 3 {
				t.Fatalf("%d attempts, want 3", len(at))
			}
			for n, most := range []time.Duration{base, 2 * base} {
				wait := at[n+1].Sub(at[n])
				if wait < 0 || wait >= most {
					t.Fatalf("wait %d was %v, want less than %v", n+1, wait, most)
				}
				tenths[n][wait*10/most]++
			}
		}
		for n, counts := range tenths {
			chi := 0.0
			for _, got := range counts {
				d := float64(got) - calls/10
				chi += d * d / (calls / 10)
			}
			if chi > 33.7 { // once in 10,000 runs, with 9 degrees of freedom
				t.Errorf("wait %d by tenths: %v, which is not even (chi squared %.1f)", n+1, counts, chi)
			}
		}
	})
}

// roundTrip is a function as a base.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
