package transport

import (
	"net/http/httptrace"
	"sync/atomic"
)

// net/http sends a request again by itself where a connection that was kept
// open turns out to be closed. With GetBody that is seen as a call of it (see
// upload.replay); without, as a second connection for one attempt.

// countConnections has the base tell of its connections, if anybody asks how
// often a request was sent: it costs a hook for every attempt.
func (a *attempt) countConnections() {
	c := a.c
	asked := c.info != nil || c.t.Observe != nil || c.rules.Idempotency != nil
	if !asked || c.upload != nil && c.upload.get != nil {
		return
	}
	var got atomic.Int32
	a.ctx = httptrace.WithClientTrace(a.ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if got.Add(1) > 1 {
			c.replays.Add(1)
			c.t.tell(c.event(Replayed))
		}
	}})
}
