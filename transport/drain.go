package transport

import (
	"bytes"
	"io"
	"net/http"
)

const (
	// drainMost is how much of a discarded response is read, so that its
	// connection can be used again.
	drainMost = 64 << 10
	// giveMost is the longest response that can still be given if the next
	// attempt never comes.
	giveMost = 16 << 10
)

// drain reads and closes a response that is to be followed by another attempt,
// within bounds of size and time, and keeps it if it is small.
func (c *call) drain(r *result) {
	data, whole := discard(r.resp)
	if !whole || len(data) > giveMost {
		return
	}
	r.kept = true
	if len(data) > 0 || r.resp.Body != nil && r.resp.Body != http.NoBody {
		r.resp.Body = io.NopCloser(bytes.NewReader(data))
	}
}

// discard reads a response to its end, if that is near, and closes it.
func discard(resp *http.Response) (data []byte, whole bool) {
	if resp.Body == nil || resp.Body == http.NoBody {
		return nil, true
	}
	defer resp.Body.Close()
	if resp.ContentLength > drainMost {
		return nil, false
	}
	b, ok := resp.Body.(*body)
	if !ok {
		return nil, false // a switched protocol, or no body by its headers
	}
	data, err := io.ReadAll(io.LimitReader(drainer{b}, drainMost+1))
	return data, err == nil && len(data) <= drainMost
}

// drainer reads a body under the time limit of draining.
type drainer struct{ b *body }

func (d drainer) Read(p []byte) (int, error) { return d.b.read(p, draining) }
