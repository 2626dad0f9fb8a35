package idempotency

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// recorder is the handler's ResponseWriter. It keeps the answer back until it
// is stored, unless the handler flushes or writes more than is kept: then it
// streams.
type recorder struct {
	w         http.ResponseWriter
	limit     int64
	header    http.Header // the handler's
	before    http.Header // what was there before it
	sent      http.Header // as it was at WriteHeader
	status    int         // 0: not yet
	body      []byte
	tooLarge  bool
	streaming bool
}

func newRecorder(w http.ResponseWriter, limit int64) *recorder {
	before := w.Header().Clone()
	header := before.Clone()
	if header == nil {
		header = http.Header{}
	}
	return &recorder{w: w, limit: limit, header: header, before: before}
}

// Header implements http.ResponseWriter.
func (c *recorder) Header() http.Header { return c.header }

// WriteHeader implements http.ResponseWriter.
func (c *recorder) WriteHeader(status int) {
	switch {
	case c.status != 0:
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("idempotency: invalid WriteHeader code %d", status))
	case status == http.StatusSwitchingProtocols:
		status = http.StatusInternalServerError // there is no connection to switch: see Hijack
	case status < 200:
		replace(c.w.Header(), c.header)
		c.w.WriteHeader(status)
		return
	}
	c.status = status
	c.sent = c.header.Clone()
}

// Write implements http.ResponseWriter. As long as the answer is recorded, it
// does not fail because the client has gone.
func (c *recorder) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.status == http.StatusNoContent || c.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	if !c.tooLarge && int64(len(c.body))+int64(len(p)) > c.limit {
		c.stream()
		c.tooLarge, c.body = true, nil
	}
	if c.tooLarge {
		return c.w.Write(p)
	}
	c.body = append(c.body, p...)
	if c.streaming {
		_, _ = c.w.Write(p)
	}
	return len(p), nil
}

// Flush implements http.Flusher.
func (c *recorder) Flush() { _ = c.FlushError() }

// FlushError is for http.ResponseController: it sends what there is, and
// streams from then on. As long as the answer is recorded, it does not fail
// because the client has gone.
func (c *recorder) FlushError() error {
	c.WriteHeader(http.StatusOK)
	c.stream()
	err := http.NewResponseController(c.w).Flush()
	if c.tooLarge {
		return err
	}
	return nil
}

// Hijack refuses: what goes over a bare connection cannot be stored.
func (c *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, fmt.Errorf("idempotency: a connection cannot be hijacked under an idempotency key: %w", http.ErrNotSupported)
}

// SetReadDeadline is for http.ResponseController.
func (c *recorder) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(c.w).SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController.
func (c *recorder) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(c.w).SetWriteDeadline(t)
}

// stream sends the head and what there is of the body, once.
func (c *recorder) stream() {
	if c.streaming {
		return
	}
	c.streaming = true
	replace(c.w.Header(), c.sent)
	c.w.WriteHeader(c.status)
	if len(c.body) > 0 {
		_, _ = c.w.Write(c.body)
	}
}

// finish sends what has not been sent.
func (c *recorder) finish() {
	if !c.streaming {
		replace(c.w.Header(), c.sent)
		deliver(c.w, c.status, c.body, c.trailer())
		return
	}
	maps.Copy(c.w.Header(), c.trailer())
}

// instead sends a problem in place of the answer, of which nothing is sent.
func (c *recorder) instead(p problem) {
	replace(c.w.Header(), c.before)
	p.send(c.w, again)
}

// answer is what is to be stored: what the handler has set, not what was
// there before it, nor what belongs to this connection or moment.
func (c *recorder) answer() *Answer {
	a := &Answer{Status: c.status, Body: c.body, TooLarge: c.tooLarge, Trailer: c.trailer()}
	for name, values := range c.sent {
		switch {
		case slices.Equal(values, c.before[name]), strings.HasPrefix(name, http.TrailerPrefix):
		case name == "Date", name == "Connection", name == "Keep-Alive", name == "Transfer-Encoding":
		default:
			if a.Header == nil {
				a.Header = make(http.Header, len(c.sent))
			}
			a.Header[name] = values
		}
	}
	return a
}

// trailer gives the trailers that the handler has set, announced or not.
func (c *recorder) trailer() (trailer http.Header) {
	add := func(name string) {
		if values, ok := c.header[name]; ok {
			if trailer == nil {
				trailer = http.Header{}
			}
			trailer[name] = values
		}
	}
	for _, names := range c.sent["Trailer"] {
		for name := range strings.SplitSeq(names, ",") {
			add(http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	for name := range c.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			add(name)
		}
	}
	return trailer
}

// deliver sends a whole answer, whose header is there. It does not mind that
// the client has gone.
func deliver(w http.ResponseWriter, status int, body []byte, trailer http.Header) {
	w.WriteHeader(status)
	if len(body) > 0 {
		_, _ = w.Write(body)
	}
	if trailer != nil {
		// A response whose length net/http finds out has no room for trailers.
		_ = http.NewResponseController(w).Flush()
		maps.Copy(w.Header(), trailer)
	}
}

// replace makes header what with is.
func replace(header, with http.Header) {
	clear(header)
	maps.Copy(header, with)
}
