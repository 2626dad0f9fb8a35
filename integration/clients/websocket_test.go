package clients

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/resagent/resagent/transport"
)

// TestWebSocket: an echo through a real library, both ways, with pings, a
// close handshake, and its permit held for as long as the socket is open.
func TestWebSocket(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	}))
	defer srv.Close()
	client, events := ours(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	var open []*websocket.Conn
	for range permits {
		c, resp, err := websocket.Dial(ctx, srv.URL, &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("status %d", resp.StatusCode)
		}
		open = append(open, c)
	}
	for _, c := range open {
		echo(ctx, t, c, "hello")
		echo(ctx, t, c, string(make([]byte, 20<<10))) // more than one buffer
	}
	if _, err := client.Get(srv.URL); !errors.Is(err, transport.ErrBulkheadFull) {
		t.Errorf("beside %d open sockets a call gives %v, want a full bulkhead", permits, err)
	}
	for _, c := range open {
		if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	resp, err := client.Get(srv.URL) // is no upgrade, and gets 426
	if err != nil {
		t.Fatalf("after the sockets were closed: %v", err)
	}
	resp.Body.Close()
	if events.of(transport.Retrying) != 0 {
		t.Errorf("%d retries", events.of(transport.Retrying))
	}
}

func echo(ctx context.Context, t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	_, data, err := c.Read(ctx)
	if err != nil || string(data) != text {
		t.Fatalf("got %d bytes and %v, want %d", len(data), err, len(text))
	}
}
