package transport

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// net/http sends a request again by itself where a connection that was kept
// open turns out to be closed. With GetBody that is seen as a call of it (see
// upload.replay); without, as a second connection for one attempt.

// countsConnections says whether the base is to tell of its connections:
// somebody asks how often a request was sent. It costs a hook for each attempt.
func (c *call) countsConnections() bool {
	return (c.info != nil || c.t.Observe != nil || c.rules.Idempotency != nil) && (c.upload == nil || c.upload.get == nil)
}

func (a *attempt) countConnections() context.Context {
	c := a.c
	var got atomic.Int32
	return httptrace.WithClientTrace(a.life, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if got.Add(1) > 1 {
			c.replays.Add(1)
			c.t.tell(c.event(Replayed))
		}
	}})
}
