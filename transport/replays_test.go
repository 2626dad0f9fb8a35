package transport

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/resagent/resagent/policies"
)

// TestReplaysWithoutBody: a server that closes the connection it had kept, as
// a request comes, gets it again from net/http; that is counted.
func TestReplaysWithoutBody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for first := true; ; first = false {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			http.ReadRequest(in)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			if first { // reads the next request, and says nothing to it
				http.ReadRequest(in)
			}
			conn.Close()
		}
	}()
	pool := &http.Transport{}
	defer pool.CloseIdleConnections()
	var events int
	tr := &Transport{Base: pool, Policies: compile(t, named(policies.Policy{})), Agent: alone(t), Observe: func(e Event) {
		if e.Kind == Replayed {
			events++
		}
	}}
	for i, want := range []int{0, 1} {
		var info Info
		req, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req.WithContext(WithInfo(req.Context(), &info)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if info.Replays != want || info.Attempts != 1 {
			t.Errorf("call %d: %+v, want %d replays in one attempt", i+1, info, want)
		}
	}
	if events != 1 {
		t.Errorf("%d events tell of replays, want 1", events)
	}
}
